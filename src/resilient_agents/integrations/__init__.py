"""Doors to other people's software: one file for each library, which you import where you want it.

- `structlog`: a log line for each event.
- `prometheus`: counters, gauges and a histogram.
- `fastapi`, `flask`: every error of a service as the one body, and an id and an end for each request.
- `celery`, `taskiq`: one decision about each job that fails.
"""
