"""Doors to other people's software: one file for each library, which you import where you want it.

- `structlog`: a log line for each event.
- `prometheus`: counters, gauges and a histogram.
"""
