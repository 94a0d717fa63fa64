"""A worker that is a plain loop: it takes messages from a list in Redis, and does what they ask.

    python worker_plain.py

A message is JSON: {"id": "m-1", "request_id": "r-1", "lead": "Ann Lee", "text": "called back"}.
It is put into a durable queue first, and done from there: nothing is lost, whatever is killed. SIGTERM ends
the worker when the jobs under way are done. REDIS_URL is the source, CRM_URL the CRM that is written to, JOBS
a file on this machine.
"""

import json
import logging
import os
import signal
from collections.abc import Mapping
from threading import Event, Thread
from typing import Any

import httpx
import redis

from resilient_agents import DeadLetterQueue, Replayer, correlation
from resilient_agents.deadletter import Limits
from resilient_agents.errors.handling import handle_errors

CRM = os.environ.get("CRM_URL", "http://127.0.0.1:8009")
WAITING, RUNNING, REFUSED = "messages", "messages:running", "messages:refused"

log = logging.getLogger("worker")
jobs = DeadLetterQueue(
    f"sqlite:///{os.environ.get('JOBS', 'jobs.db')}",
    limits=Limits(wait_initial=float(os.environ.get("WAIT_INITIAL", "1"))),
)


@jobs.handler("note", idempotent=True)
def write_note(job: Mapping[str, Any]) -> int:
    """Write a note about a lead. The CRM knows the job by its key, so that twice is once."""
    with correlation.bind(request_id=job.get("request_id"), job_id=job["id"], job_name="note"):
        answer = httpx.post(
            f"{CRM}/notes",
            json={"lead": job["lead"], "text": job["text"]},
            headers={"Idempotency-Key": job["id"], "X-Request-ID": job.get("request_id", "")},
            timeout=10.0,
        )
        answer.raise_for_status()
        log.info("note %s for request %s", answer.json()["id"], job.get("request_id"))
        return int(answer.json()["id"])


@handle_errors
def take_in(message: str) -> bool:
    """Make a message durable; one that comes twice is one job. What is no message is logged, and refused."""
    job = json.loads(message)
    jobs.enqueue("note", job, key=job["id"])
    return True


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
    source = redis.Redis.from_url(url, decode_responses=True)
    replayer = Replayer(jobs)
    doing = Thread(target=replayer.run)
    doing.start()
    while source.lmove(RUNNING, WAITING, "RIGHT", "RIGHT"):  # an earlier worker was killed over these
        pass
    log.info("taking messages; Ctrl-C or SIGTERM ends it")
    while not stopping.is_set():
        found = source.blmove(WAITING, RUNNING, 1, "LEFT", "LEFT")
        if found is None:
            continue
        message = str(found)
        accepted = take_in(message) is True
        with source.pipeline() as together:
            if not accepted:
                together.rpush(REFUSED, message)
            together.lrem(RUNNING, 1, message)
            together.execute()
    replayer.stop()
    doing.join()
    log.info("ended; %d jobs wait for the next worker", jobs.stats().waiting)


if __name__ == "__main__":
    main()
