"""The outside world: customer relationship management systems.

- `transport`: one HTTP exchange with a limit on everything.
- `kommo`: Kommo / amoCRM.
"""
