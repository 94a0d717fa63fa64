"""taskiq over a real Redis: what is tried again, kept and carried."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from taskiq.receiver import Receiver
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker
from tests.policies.redis_server import Server
from tests.policies.redis_server import running as redis_running

from resilient_agents import DeadLetterQueue, correlation
from resilient_agents.errors import Unreachable, ValidationFailed
from resilient_agents.integrations.taskiq import ResilientMiddleware


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a Redis."""
    with redis_running(tmp_path_factory.mktemp("redis")) as server:
        yield server


async def test_jobs_over_redis(redis: Server, tmp_path: Path) -> None:
    """A job is tried again under its id and with what was bound, and kept when it fails for good."""
    seen: list[dict[str, str]] = []
    failures: list[Exception] = [Unreachable(), Unreachable()]
    results: Any = RedisAsyncResultBackend(redis.url)
    with DeadLetterQueue(f"sqlite:///{tmp_path}/dead.db") as queue:
        middleware = ResilientMiddleware(queue=queue, wait_initial=0.01)
        broker = RedisStreamBroker(redis.url).with_result_backend(results).with_middlewares(middleware)

        @broker.task(task_name="mail.send")
        async def send(to: str) -> str:
            seen.append(dict(correlation.current()))
            if to == "nobody":
                raise ValidationFailed
            if failures:
                raise failures.pop()
            return f"sent to {to}"

        await broker.startup()
        ended = asyncio.Event()
        worker = asyncio.create_task(Receiver(broker, max_async_tasks=4, run_startup=False).listen(ended))
        with correlation.bind(request_id="r-1"):
            fine = await send.kiq("Ann")
            wrong = await send.kiq("nobody")
        done = await fine.wait_result(check_interval=0.01, timeout=60)
        failed = await wrong.wait_result(check_interval=0.01, timeout=60)
        ended.set()
        with suppress(asyncio.CancelledError):
            await worker
        await broker.shutdown()

        assert ("sent to Ann", True) == (done.return_value, failed.is_err)
        expected = [
            {"request_id": "r-1", "job_id": it.task_id, "job_name": "mail.send"} for it in (fine, wrong)
        ]
        assert expected[1] in seen
        assert 3 == seen.count(expected[0])
        kept = queue.get("mail.send", wrong.task_id)
        assert kept is not None
        assert "validation.invalid" == kept.code
