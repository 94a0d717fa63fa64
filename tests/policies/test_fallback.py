"""What a caller gets instead, when a call that is not critical fails."""

import asyncio
from typing import Any

import pytest

from resilient_agents import events
from resilient_agents.errors import (
    Category,
    ConfigurationError,
    NotFound,
    RateLimited,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.policies import degrade, fallback


def fail(exc: BaseException) -> Any:
    """Return a function that raises *exc*."""

    def call(*_: object, **__: object) -> str:
        raise exc

    return call


def afail(exc: BaseException) -> Any:
    """Return a coroutine function that raises *exc*."""

    async def call(*_: object, **__: object) -> str:
        raise exc

    return call


async def test_success_is_left_alone() -> None:
    """A call that succeeds returns what it returns."""

    @fallback("other")
    async def afetch() -> str:
        return "deal"

    assert "deal" == fallback("other")(lambda: "deal")()
    assert "deal" == await afetch()


async def test_value() -> None:
    """A value is returned as it is."""
    nothing: list[str] = []

    assert fallback(nothing)(fail(Unreachable()))() is nothing
    assert await fallback(nothing)(afail(Unreachable()))() is nothing


async def test_function() -> None:
    """A function is called with the same arguments, and may be awaited where the call is."""

    def other(first: int, *, second: int) -> tuple[int, int]:
        return first, second

    async def aother(first: int, *, second: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return second, first

    assert (1, 2) == fallback(other)(fail(Unreachable()))(1, second=2)
    assert (1, 2) == await fallback(other)(afail(Unreachable()))(1, second=2)
    assert (2, 1) == await fallback(aother)(afail(Unreachable()))(1, second=2)


async def test_default_is_never_called() -> None:
    """`degrade` returns its default, even one that can be called."""
    assert () == degrade(default=())(fail(Unreachable()))()
    assert degrade(default=print)(fail(Unreachable()))(1) is print
    assert await degrade(default=print)(afail(Unreachable()))(1) is print


@pytest.mark.parametrize("exc", [Unreachable(), RateLimited(), NotFound()], ids=repr)
def test_covered(exc: Exception) -> None:
    """Failures of others are covered."""
    assert 1 == fallback(1)(fail(exc))()


@pytest.mark.parametrize(
    "exc", [ZeroDivisionError(), ConfigurationError(), ValidationFailed(), KeyboardInterrupt()], ids=repr
)
async def test_not_covered(exc: BaseException) -> None:
    """Defects, wrong input and Ctrl-C come through, as they are."""
    with pytest.raises(type(exc)) as raised:
        fallback(1)(fail(exc))()
    assert exc is raised.value
    with pytest.raises(type(exc)):
        await fallback(1)(afail(exc))()


@pytest.mark.parametrize("on", [ZeroDivisionError, Category.INTERNAL, "Zero", lambda exc: True], ids=repr)
def test_own_choice(on: Any) -> None:
    """`on` says which failures are covered."""
    assert 1 == fallback(1, on=on)(fail(ZeroDivisionError()))()


def test_own_choice_leaves_the_others() -> None:
    """What `on` does not name is not covered."""
    with pytest.raises(Unreachable):
        degrade(default=1, on=KeyError)(fail(Unreachable()))()


def test_failing_fallback() -> None:
    """A fallback that fails says so itself, with nothing of the first failure chained to it by accident."""
    with pytest.raises(ValidationFailed) as raised:
        fallback(fail(ValidationFailed()))(fail(Unreachable()))()
    assert raised.value.__context__ is None


def test_it_is_told() -> None:
    """The failure is an event, so that it is not hidden."""
    told: list[events.FellBack] = []
    events.subscribe(events.FellBack)(told.append)

    fallback(1)(fail(Unreachable()))()
    degrade(default=1, name="badges")(fail(Unreachable()))()

    assert [(it.target, it.failure.code, it.name) for it in told] == [
        ("test_fallback.fail.<locals>.call", "external.unreachable", name) for name in ("", "badges")
    ]


def test_wrong_use() -> None:
    """A filter that is none, a class, and a fallback that cannot be awaited are refused at once."""
    with pytest.raises(TypeError, match="on= takes exception types"):
        fallback(1, on=503)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not on the class"):
        fallback(1)(dict)
    with pytest.raises(TypeError, match="must be awaited"):
        fallback(afail(Unreachable()))(fail(Unreachable()))


def test_it_says_what_it_does() -> None:
    """A fallback describes itself without showing a value."""
    assert (
        "after some failures, what test_fallback.fail returns instead"
        == fallback(fail, on=KeyError).describe()
    )
    assert ("Fallback(str)", "Fallback(test_fallback.fail)") == (
        repr(fallback("secret")),
        repr(fallback(fail)),
    )
