"""One HTTP exchange in which everything is bounded: each phase, the whole, and the size of the answer.

The exchange is written once, for an event loop, where a total timeout can be kept to the millisecond: a
server that drips a byte a second passes every per-phase timeout. The blocking twin hands the same exchange
to an event loop in a thread of its own.
"""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from resilient_agents.errors import ConfigurationError, Origin, OutcomeUnknown, Unreachable
from resilient_agents.policies.timeouts import remaining

if TYPE_CHECKING:
    import asyncio

    import httpx

ANSWER_LIMIT: Final = 16 << 20
"""Greatest size of an answer, in bytes, after decompression."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long to wait, in seconds, for each phase of an exchange and for the whole of it.

    Attributes:
        connect: For the connection, TLS included. The default is 5.
        read: For each piece of the answer. The default is 10.
        write: For each piece of the request to be taken. The default is 10.
        pool: For a free connection. The default is 5.
        total: For all of it. The default is 30. An earlier `deadline` shortens it.
    """

    connect: float = 5.0
    read: float = 10.0
    write: float = 10.0
    pool: float = 5.0
    total: float = 30.0

    def __post_init__(self) -> None:
        if not all(0 < seconds < inf for seconds in astuple(self)):
            raise ConfigurationError("every timeout must be a positive number of seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked. Its ``repr`` shows neither the body nor the headers, which hold the token.

    Attributes:
        method: The HTTP method, in capitals.
        path: Path on the host, with a leading slash.
        query: Query parameters.
        body: Sent as JSON, or *None* for no body.
        headers: Headers besides the content type.
    """

    method: str
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Any = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back, whole.

    Attributes:
        status: The HTTP status.
        headers: The headers, names in lower case.
        content: The body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def media_type(self) -> str:
        """The content type without parameters, in lower case; empty when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class AwaitingTransport:
    """Exchanges requests for answers in an event loop; each loop has connections of its own.

    Args:
        base_url: Scheme and host.
        timeouts: How long to wait.
    """

    def __init__(self, base_url: str, timeouts: Timeouts) -> None:
        self._base_url = base_url
        self._timeouts = timeouts
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    async def send(self, request: Request) -> Answer:
        """Send *request* and return the whole answer, whatever its status.

        Raises:
            httpx.HTTPError: The exchange failed in one of its phases.
            OutcomeUnknown: The total time was up, or the answer is too long.
            Unreachable: There was no time left to begin.
        """
        import asyncio

        left = remaining()
        seconds = self._timeouts.total if left is None else min(left, self._timeouts.total)
        if seconds <= 0:
            raise Unreachable(
                f"no time was left to call {self._base_url}", origin=Origin.SELF, code="external.deadline"
            )
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(request)
        except TimeoutError:
            raise OutcomeUnknown(
                f"{self._base_url} did not answer within {seconds:.3g} s in all",
                code="external.timeout",
                status=504,
            ) from None

    async def close(self) -> None:
        """Close the connections of the running event loop. A later call opens new ones."""
        import asyncio

        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _exchange(self, request: Request) -> Answer:
        content = None if request.body is None else json.dumps(request.body, ensure_ascii=False).encode()
        headers = {"content-type": "application/json"} if content else {}
        async with self._client().stream(
            request.method,
            request.path,
            params=dict(request.query),
            content=content,
            headers={**headers, **request.headers},
        ) as response:
            pieces, size = [], 0
            async for piece in response.aiter_bytes():
                size += len(piece)
                if size > ANSWER_LIMIT:
                    raise OutcomeUnknown(f"{self._base_url} sent more than {ANSWER_LIMIT} bytes")
                pieces.append(piece)
        names = {name.lower(): value for name, value in response.headers.items()}
        return Answer(status=response.status_code, headers=names, content=b"".join(pieces))

    def _client(self) -> "httpx.AsyncClient":
        """Return the client of the running event loop: a connection cannot move to another one."""
        import asyncio

        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            for closed in [other for other in list(self._clients) if other.is_closed()]:
                self._clients.pop(closed, None)
            client = self._clients[loop] = self._open()
        return client

    def _open(self) -> "httpx.AsyncClient":
        import httpx

        each = self._timeouts
        secure = self._base_url.startswith("https:")  # or it is this machine: no certificate, no proxy
        return httpx.AsyncClient(
            base_url=self._base_url,
            timeout=httpx.Timeout(connect=each.connect, read=each.read, write=each.write, pool=each.pool),
            follow_redirects=False,
            verify=secure,
            trust_env=secure,
        )


class BlockingTransport:
    """Exchanges requests for answers, blocking the calling thread. Safe in threads and after a fork.

    Its event loop runs in a daemon thread, so a program may end without closing it.

    Args:
        base_url: Scheme and host.
        timeouts: How long to wait.
    """

    def __init__(self, base_url: str, timeouts: Timeouts) -> None:
        self._awaiting = AwaitingTransport(base_url, timeouts)
        self._reset()
        _transports.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None

    def send(self, request: Request) -> Answer:
        """Do what `AwaitingTransport.send` does, blocking."""
        import asyncio

        with self._lock:
            future = asyncio.run_coroutine_threadsafe(self._awaiting.send(request), self._loop())
        try:
            return future.result()
        finally:
            future.cancel()  # what Ctrl-C interrupts here must not go on over there

    def close(self) -> None:
        """Finish the calls under way and close the connections. A later call opens new ones."""
        import asyncio

        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            loop, thread = running
            asyncio.run_coroutine_threadsafe(self._finish(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _finish(self) -> None:
        import asyncio

        await asyncio.sleep(0)  # answers that were cut off get tasks that close them
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*calls, return_exceptions=True)
        await self._awaiting.close()
        await asyncio.get_running_loop().shutdown_asyncgens()

    def _loop(self) -> "asyncio.AbstractEventLoop":
        if self._running is None:
            import asyncio

            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="crm-transport", daemon=True)
            thread.start()
            self._running = (loop, thread)
        return self._running[0]


_transports: "WeakSet[BlockingTransport]" = WeakSet()
_inherited: list[object] = []


def _after_fork() -> None:
    """Give a forked child its own thread, event loop and lock; its parent's must not be touched."""
    for transport in _transports:
        _inherited.append(transport._running)
        transport._reset()


os.register_at_fork(after_in_child=_after_fork)
