"""What is done with a failure at the edge of a program."""

import inspect
import logging

import pytest

from resilient_agents import events
from resilient_agents.errors import Conflict, DeadlineExceeded, NotFound, classify
from resilient_agents.errors.handling import handle_errors, log_failure, trace
from resilient_agents.errors.responses import ErrorResponse

SECRET = "hunter2"


@pytest.fixture
def heard() -> list[events.CallFailed]:
    """What was said."""
    heard: list[events.CallFailed] = []
    events.subscribe(events.CallFailed)(heard.append)
    return heard


@handle_errors
def blocking(outcome: int | BaseException) -> int:
    """Do what it is told."""
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


@handle_errors
async def awaiting(outcome: int | BaseException) -> int:
    """Do what it is told."""
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def test_what_goes_well_passes() -> None:
    """A result is handed through, and the functions keep what they are."""
    assert 1 == blocking(1) == await awaiting(1)
    assert inspect.iscoroutinefunction(awaiting)
    assert not inspect.iscoroutinefunction(blocking)
    assert ["outcome"] == [*inspect.signature(blocking).parameters]


async def test_failure_is_an_answer(heard: list[events.CallFailed], caplog: pytest.LogCaptureFixture) -> None:
    """A failure is returned as an answer, logged once, and said once."""
    exc = Conflict("taken")
    with caplog.at_level(logging.INFO):
        answers = [blocking(exc), await awaiting(exc)]

    assert [409, 409] == [answer.status for answer in answers if isinstance(answer, ErrorResponse)]
    assert [exc, exc] == [event.exception for event in heard]
    assert [f"{__name__}.blocking", f"{__name__}.awaiting"] == [event.target for event in heard]
    assert [
        ("resilient_agents.errors", logging.INFO, f"{__name__}.{name}: conflict.state: taken")
        for name in ("blocking", "awaiting")
    ] == caplog.record_tuples
    assert ("conflict.state", "conflict", 409) == tuple(
        getattr(caplog.records[0], name) for name in ("code", "category", "status")
    )


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), SystemExit()])
async def test_what_is_no_failure_passes(exc: BaseException, heard: list[events.CallFailed]) -> None:
    """Ctrl-C is neither answered nor said."""
    with pytest.raises(type(exc)):
        blocking(exc)
    with pytest.raises(type(exc)):
        await awaiting(exc)
    assert [] == heard


async def test_answer_of_ones_own() -> None:
    """The caller makes what he needs of the answer, awaiting it where he can."""

    def short(answer: ErrorResponse) -> tuple[int, str]:
        return answer.status, answer.body["code"]

    async def later(answer: ErrorResponse) -> tuple[int, str]:
        return short(answer)

    @handle_errors(respond=short, code="not_found.agent")
    def find() -> None:
        raise NotFound

    @handle_errors(respond=later)
    async def search() -> None:
        raise NotFound

    @handle_errors(respond=short)
    async def look() -> None:
        raise NotFound

    assert (404, "not_found.agent") == find()
    assert (404, "not_found.missing") == await search() == await look()


def test_methods() -> None:
    """It works on methods."""

    class Handler:
        @handle_errors
        def handle(self) -> None:
            raise NotFound

    answer = Handler().handle()
    assert isinstance(answer, ErrorResponse)


def test_what_is_no_function() -> None:
    """Anything else is refused."""
    with pytest.raises(TypeError, match=r"^handle_errors is for functions"):
        handle_errors(respond=str)(5)  # type: ignore[arg-type]


def fail() -> None:
    """Raise what a program should not tell."""
    try:
        raise KeyError(SECRET)
    except KeyError as exc:
        raise LookupError(f"password={SECRET}") from exc


def test_trace_has_no_texts(caplog: pytest.LogCaptureFixture) -> None:
    """The log says where a defect is, and what caused it; no text of an exception."""
    with pytest.raises(LookupError) as raised:
        fail()
    log_failure(logging.getLogger("test"), "request_failed", "GET /", classify(raised.value), raised.value)

    (record,) = caplog.records
    assert (logging.ERROR, "request_failed") == (record.levelno, vars(record)["event"])
    lines = record.getMessage().splitlines()
    assert "GET /: internal.bug: A defect in this program: KeyError" == lines[0]
    assert ["LookupError", "caused by", "KeyError"] == [
        line for line in lines[1:] if not line.startswith(" ")
    ]
    assert 2 == sum("in fail" in line for line in lines)
    assert "password=hunter2" not in record.getMessage()


def test_level_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    """What is not logged is not written."""
    caplog.set_level(logging.ERROR)
    log_failure(
        logging.getLogger("test"), "request_failed", "GET /", classify(DeadlineExceeded()), DeadlineExceeded()
    )

    assert [] == caplog.records


def test_trace_of_a_circle() -> None:
    """Causes that lead back to themselves come to an end."""
    one, other = KeyError(), ValueError()
    one.__cause__, other.__cause__ = other, one

    assert "KeyError\ncaused by\nValueError" == trace(one)


def test_trace_ends() -> None:
    """A deep recursion leaves out its beginning, and a long chain its end."""
    exc: Exception = KeyError()
    for _ in range(20):
        outer = ValueError()
        outer.__cause__, exc = exc, outer
    assert 8 == len(trace(exc).splitlines()) / 2 + 0.5

    def dig(depth: int) -> None:
        if depth == 0:
            raise KeyError
        dig(depth - 1)

    with pytest.raises(KeyError) as raised:
        dig(50)
    assert 20 >= trace(raised.value).count("in dig")
