"""What the adapters cost a web framework: requests that go well, and requests that fail.

Each application is measured bare and with `install`, in one run, in interleaved rounds: as CPU time of a
request that is handed to it in the process, and as requests a second through a real server.

    python benchmarks/web.py [--rounds 30] [--json FILE]
"""

import argparse
import asyncio
import io
import logging
import multiprocessing
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any, NamedTuple

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from interleaved import Cost, fastest, no_collections, table, write_json
from resilient_agents.integrations import fastapi as answers

BARE, OURS = "bare", "with install()"
MOST_THROUGHPUT_LOST = 0.08
HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"content-type", b"application/json"),
]


class Message(BaseModel):
    """What a chat endpoint takes."""

    agent_id: int
    text: str


class Request(NamedTuple):
    """A request to measure with, and whether it fails."""

    method: str
    path: str
    body: bytes
    status: int


HAPPY = {
    "GET, a path parameter": Request("GET", "/agents/42", b"", 200),
    "POST, a JSON body": Request("POST", "/chat", b'{"agent_id": 42, "text": "Hello"}', 200),
}
FAILING = {
    "HTTPException 404": Request("GET", "/missing", b"", 404),
    "unknown route 404": Request("GET", "/no/such/route", b"", 404),
    "invalid body 422": Request("POST", "/chat", b'{"agent_id": "x"}', 422),
    "unhandled 500": Request("GET", "/crash", b"", 500),
}


def fastapi_application(installed: bool) -> Any:
    """Return a FastAPI application of a few endpoints."""
    app = FastAPI()

    @app.get("/agents/{agent_id}")
    async def agent(agent_id: int) -> dict[str, int | str]:
        return {"id": agent_id, "name": "Ann"}

    @app.post("/chat")
    async def chat(message: Message) -> dict[str, str]:
        return {"answer": message.text}

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404, "No such agent")

    @app.get("/crash")
    async def crash() -> None:
        raise KeyError("text")

    if installed:
        answers.install(app)
    return app


def over_asgi(app: Any, request: Request) -> Callable[[Any], Awaitable[None]]:
    """Return a function that hands over a request, as a server does, and logs what is let out."""
    message = {"type": "http.request", "body": request.body, "more_body": False}
    headers = [*HEADERS, (b"content-length", str(len(request.body)).encode())]
    log = logging.getLogger("uvicorn.error")

    async def receive() -> dict[str, Any]:
        return message

    async def call(_: Any) -> None:
        status = 0

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 40000),
            "scheme": "http",
            "method": request.method,
            "root_path": "",
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": b"",
            "headers": list(headers),
            "state": {},
        }
        try:
            await app(scope, receive, send)
        except Exception:
            log.exception("Exception in ASGI application")
        assert status == request.status

    return call


async def time_requests(call: Any, calls: int) -> float:
    """Return the CPU seconds of so many requests."""
    start = process_time()
    for _ in range(calls):
        await call(1)
    return process_time() - start


async def in_process(rounds: int) -> list[Cost]:
    """Return the CPU time of a request of each kind, bare and with ours."""
    applications = {BARE: fastapi_application(False), OURS: fastapi_application(True)}
    costs = []
    for scenario, request in (HAPPY | FAILING).items():
        calls = {name: over_asgi(app, request) for name, app in applications.items()}
        best = await fastest(calls, time_requests, rounds)
        costs += [
            Cost(f"FastAPI: {scenario}", "async", name, round(cost), round(cost / best[BARE], 3))
            for name, cost in best.items()
        ]
    return costs


def serve(kind: str, installed: bool, port: int) -> None:
    """Serve an application until the process is ended."""
    import uvicorn

    logging.basicConfig(stream=io.StringIO())
    app = APPLICATIONS[kind](installed)
    uvicorn.run(app, port=port, log_config=None, access_log=False)


APPLICATIONS: dict[str, Callable[[bool], Any]] = {"FastAPI": fastapi_application}


class Server:
    """An application behind uvicorn in a process of its own."""

    def __init__(self, kind: str, installed: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=serve, args=(kind, installed, self.port), daemon=True)
        self.process.start()
        self.connection = self._connect()

    def _connect(self) -> socket.socket:
        for _ in range(300):
            try:
                return socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                sleep(0.1)
        raise RuntimeError("the server did not start")

    def rate(self, request: Request, calls: int) -> float:
        """Return the requests a second over one connection that is kept alive, pipelined by sixteen."""
        head = f"{request.method} {request.path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(request.body)}\r\n\r\n"
        raw = (head.encode() + request.body) * 16
        begin = perf_counter()
        for _ in range(calls // 16):
            self.connection.sendall(raw)
            answered = 0
            while answered < 16:
                answered += self.connection.recv(65536).count(b"HTTP/1.1 ")
        return calls / (perf_counter() - begin)

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def through_server(kind: str, rounds: int) -> dict[str, float]:
    """Return how many requests a second bare and with ours, the best of all rounds of each."""
    servers = {BARE: Server(kind, False), OURS: Server(kind, True)}
    best = dict.fromkeys(servers, 0.0)
    try:
        for _ in range(rounds):
            for name, server in servers.items():
                with no_collections():
                    best[name] = max(best[name], server.rate(HAPPY["POST, a JSON body"], 320))
    finally:
        for server in servers.values():
            server.close()
    return best


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(stream=io.StringIO())
    costs = asyncio.run(in_process(arguments.rounds))
    print(table(costs))
    rates = {kind: through_server(kind, arguments.rounds) for kind in APPLICATIONS}
    print()
    for kind, rate in rates.items():
        lost = 1 - rate[OURS] / rate[BARE]
        print(
            f"{kind} through a server: {rate[BARE]:,.0f} requests a second bare, {rate[OURS]:,.0f} with install()"
        )
        print(f"goal: at most {MOST_THROUGHPUT_LOST:.0%} of throughput lost; measured: {lost:.1%}")
    if arguments.json:
        write_json(arguments.json, arguments.rounds, costs, requests_a_second=rates)


if __name__ == "__main__":
    main()
