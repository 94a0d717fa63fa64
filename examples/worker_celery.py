"""A Celery worker whose jobs are tried again where that can help, and kept where it cannot.

    celery --app worker_celery worker           does the jobs
    resilient-agents worker worker_celery:dead_letters    does later what is kept, when the CRM is back
    python worker_celery.py "Ann Lee"           hands a job in

REDIS_URL is the broker, CRM_URL the CRM that the jobs write to, DEAD_LETTERS a file on this machine.
"""

import os
import sys

import httpx
from celery import Celery

from resilient_agents import DeadLetterQueue, correlation
from resilient_agents.integrations import celery as resilience
from resilient_agents.integrations import structlog as events_to_log
from resilient_agents.policies import remaining

CRM = os.environ.get("CRM_URL", "http://127.0.0.1:8009")

app = Celery("agents", broker=os.environ.get("REDIS_URL", "redis://localhost:6379/0"))
app.conf.update(
    # A worker that is killed in the middle of a job gives it back: another one does it.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    # Celery stops a job after this time, and everything below knows how much of it is left.
    task_soft_time_limit=60,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)

queue = DeadLetterQueue(f"sqlite:///{os.environ.get('DEAD_LETTERS', 'dead.db')}")
resilience.install(app, queue=queue, wait_initial=float(os.environ.get("WAIT_INITIAL", "1")))
events_to_log.install()


@app.task(name="crm.note", idempotent=True, max_retries=3)
def write_note(lead: str, text: str) -> int:
    """Write a note about a lead. The CRM knows the job by its key, so that twice is once."""
    answer = httpx.post(
        f"{CRM}/notes",
        json={"lead": lead, "text": text},
        headers={
            "Idempotency-Key": correlation.current()["job_id"],
            "X-Request-ID": correlation.current().get("request_id", ""),
        },
        timeout=min(10.0, remaining() or 10.0),
    )
    answer.raise_for_status()
    return int(answer.json()["id"])


def dead_letters() -> DeadLetterQueue:
    """Return the queue, for the worker that does later what is kept."""
    app.finalize()
    return queue


if __name__ == "__main__":
    with correlation.bind(request_id=correlation.new_id()):  # in a web application the adapter does this
        job = write_note.delay(sys.argv[1], "called back")
        print(f"job {job.id} of request {correlation.current()['request_id']}")
