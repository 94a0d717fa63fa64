"""An account on a clock that stands still, and a way to ask it without sockets."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from resilient_agents.testing.clock import FakeClock
from resilient_agents.testing.fake_kommo.account import Account
from resilient_agents.testing.fake_kommo.answers import Answer, Request
from resilient_agents.testing.fake_kommo.gate import Switches


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer, decoded."""

    status: int
    content_type: str
    value: Any


TOKEN = "test-token"


class Caller:
    """Asks an account as a client would, without a network."""

    def __init__(self, account: Account) -> None:
        self.account = account

    def request(self, method: str, address: str, value: Any = None, token: str | None = TOKEN) -> Request:
        """Return a request."""
        path, _, query = address.partition("?")
        body = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
        pairs = tuple(parse_qsl(query, keep_blank_values=True))
        return Request(method=method, path=path, query=pairs, token=token, body=body, origin="http://fake")

    def __call__(self, method: str, address: str, value: Any = None, token: str | None = TOKEN) -> Reply:
        """Send a request through the whole gate."""
        return decode(self.account.answer(self.request(method, address, value, token)))


def decode(answer: Answer) -> Reply:
    """Return *answer* with its body decoded."""
    is_json = answer.content_type.endswith("json") and answer.body
    value = json.loads(answer.body) if is_json else answer.body.decode()
    return Reply(status=answer.status, content_type=answer.content_type, value=value)


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """A clock that stands still, in force for the whole process."""
    with FakeClock() as still:
        yield still


class HeldClock(FakeClock):
    """A clock on which a wait ends when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._ends = threading.Semaphore(0)

    def sleep(self, seconds: float) -> None:
        """Wait until the test ends a wait; give up after a minute."""
        assert self._ends.acquire(timeout=60)
        super().sleep(seconds)

    def end_a_wait(self) -> None:
        """Let the wait that was begun first end, or the next one that is begun."""
        self._ends.release()


@pytest.fixture
def held() -> Iterator[HeldClock]:
    """A clock, in force for the whole process, on which a wait ends when the test says so."""
    with HeldClock() as clock:
        yield clock


@pytest.fixture
def build(clock: FakeClock) -> Callable[..., Caller]:
    """A function that builds an account, without a rate unless told, and returns its caller."""

    def build(*, faults: Any = (), seed: int = 0, data: Path | None = None, **switches: Any) -> Caller:
        settings = Switches.from_json({"rate": None, **switches})
        return Caller(Account(settings, faults, seed=seed, data=data))

    return build


@pytest.fixture
def ask(build: Callable[..., Caller]) -> Caller:
    """The caller of a plain account."""
    return build()
