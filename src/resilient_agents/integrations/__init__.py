"""Doors to other people's software: one file for each library, which you import where you want it.

- `fastapi`, `flask`: one body for every error, an id and an end for every request.
- `celery`, `taskiq`: one decision about each job that fails.
- `structlog`: log lines that nothing makes raise, and one for each event.
- `sentry`: one event for each operation that failed.
- `prometheus`: counters, gauges and a histogram.
- `opentelemetry`: what happens, on the current span.
"""
