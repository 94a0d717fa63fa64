"""The FastAPI example as a process of its own, with a defect in it; its settings are in the environment."""

import logging
import socket
import sys
from collections.abc import AsyncIterator

import uvicorn
from examples.fastapi_app import breaker, create_app
from starlette.responses import StreamingResponse

from resilient_agents import events


def say(*words: object) -> None:
    """Write a line for the test."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until SIGTERM; the output is the port, then a line for each failed request."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = create_app()

    @app.get("/crash")
    async def crash() -> None:
        dsn = "postgresql://app:hunter2@db/agents"
        raise KeyError(f"cannot connect to {dsn}")

    async def parts() -> AsyncIterator[bytes]:
        password = "hunter2"
        yield b"one"
        raise KeyError(password)

    @app.get("/broken")
    async def broken() -> StreamingResponse:
        return StreamingResponse(parts())

    @app.post("/reset")
    async def reset() -> None:
        breaker.reset()

    @events.subscribe(events.RequestFailed)
    def tell(event: events.RequestFailed) -> None:
        say(event.request_id, event.status, event.failure.code, event.route)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        say(listening.getsockname()[1])
        config = uvicorn.Config(app, log_config=None, access_log=False, log_level="warning")
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
