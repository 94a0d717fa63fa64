"""Whose failure it is, by the block in which it was raised."""

import asyncio
import inspect
import json
import pickle
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.errors import (
    Category,
    Failure,
    NotFound,
    Origin,
    Unreachable,
    classify,
    dependency,
    register,
)
from resilient_agents.errors.scope import MARK, in_force

kommo = dependency("kommo")


def caught(call: Callable[[], object]) -> Exception:
    """Return what *call* raises."""
    try:
        call()
    except Exception as exc:
        return exc
    raise AssertionError("nothing was raised")


def raising(exc: Exception) -> Callable[[], None]:
    """Return a function that raises *exc*."""

    def fail() -> None:
        raise exc

    return fail


def left(block: Any, exc: Exception) -> Exception:
    """Return *exc* after it has left *block*."""
    return caught(block(raising(exc)))


def bad_json() -> Exception:
    """Return what a body that is no JSON raises."""
    return caught(lambda: json.loads("<html>"))


def told(found: Failure) -> tuple[str, Origin, str]:
    """Return what a decision says about whose failure it is."""
    return found.code, found.origin, found.dependency


KOMMOS = ("external.bad_body", Origin.DEPENDENCY, "kommo")


class Slotted(ValueError):
    """An exception whose class leaves no room for attributes, and takes none."""

    __slots__ = ("reason",)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Hiding(Exception):
    """An exception that hides its dict."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no dict")


class Unknown(Exception):
    """An exception of somebody's SDK."""


class TestOpenBlock:
    """While the block is open."""

    def test_what_says_nothing_of_its_origin_is_the_dependencys(self) -> None:
        """A body that is no JSON is a bad answer inside, and unread data outside."""
        exc = bad_json()
        with kommo:
            inside = classify(exc)
        assert KOMMOS == told(inside)
        assert "kommo: An answer cannot be read: json.decoder.JSONDecodeError" == inside.detail
        assert ("internal.data", Origin.SELF, "") == told(classify(exc))

    def test_an_unknown_exception_is_the_dependencys_and_is_not_repeated(self) -> None:
        """An SDK's own exception has an owner, but nothing says that it passes."""
        with kommo:
            found = classify(Unknown())
        assert ("internal.unexpected", Origin.DEPENDENCY, "kommo") == told(found)
        assert "never" == found.advice

    @pytest.mark.parametrize(
        ("exc", "expected"),
        [
            (NotFound("no lead 7"), ("not_found.missing", Origin.INBOUND, "")),
            (TypeError(), ("internal.bug", Origin.SELF, "")),
            (MemoryError(), ("internal.resource", Origin.SELF, "")),
            (OSError(28, "x"), ("internal.resource", Origin.SELF, "")),
        ],
        ids=repr,
    )
    def test_what_has_an_origin_of_its_own_keeps_it(self, exc: Exception, expected: Any) -> None:
        """Our caller's mistake, our defect and our disk do not become the CRM's."""
        with kommo:
            assert expected == told(classify(exc))
            assert classify(exc).detail == classify(left(dependency("x"), exc)).detail

    def test_a_refusal_of_our_caller_keeps_its_origin(self) -> None:
        """A framework's HTTP exception is inbound, by name and without importing it."""
        refusal: Any = type("HTTPException", (Exception,), {"__module__": "starlette.exceptions"})
        exc = refusal()
        exc.status_code = 404
        with kommo:
            assert ("not_found.missing", Origin.INBOUND, "") == told(classify(exc))

    @pytest.mark.parametrize(
        "exc", [ConnectionRefusedError(), Unreachable("no route"), psycopg.errors.DeadlockDetected()]
    )
    def test_a_failure_of_a_dependency_gets_its_name(self, exc: Exception) -> None:
        """What is a dependency's anyway is this one's; its code does not change."""
        with kommo:
            found = classify(exc)
        assert (classify(exc).code, Origin.DEPENDENCY, "kommo") == told(found)

    def test_our_own_exceptions_keep_their_words(self) -> None:
        """A detail that a person wrote is not touched."""
        with kommo:
            assert "no route" == classify(Unreachable("no route")).detail

    def test_an_explicit_origin_wins(self) -> None:
        """Who says it outright knows better than the block."""
        with kommo:
            assert ("validation.invalid", Origin.INBOUND, "") == told(
                classify(bad_json(), origin=Origin.INBOUND)
            )
            assert ("internal.data", Origin.SELF, "") == told(classify(bad_json(), origin=Origin.SELF))
            assert KOMMOS == told(classify(bad_json(), origin=Origin.DEPENDENCY))

    def test_a_rule_keeps_the_origin_that_it_gave(self) -> None:
        """What register() was told is not overruled by a block."""
        register(Unknown, category=Category.INTERNAL)
        register(Slotted, category=Category.EXTERNAL)
        with kommo:
            assert ("internal.unexpected", Origin.SELF, "") == told(classify(Unknown()))
            assert ("external.unavailable", Origin.DEPENDENCY, "kommo") == told(classify(Slotted()))

    def test_of_nested_blocks_the_innermost_counts(self) -> None:
        """A cache inside a CRM call is the cache's own."""
        with kommo:
            with dependency("redis"), kommo, dependency("redis"):
                assert "redis" == classify(TimeoutError()).dependency
            assert "kommo" == classify(TimeoutError()).dependency
        assert "" == classify(TimeoutError()).dependency
        assert "" == in_force()

    def test_cancellation_passes_and_closes_the_block(self) -> None:
        """What is no failure is neither marked nor held."""
        exc = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt), kommo:
            raise exc
        assert {} == exc.__dict__
        assert "" == in_force()


class TestAfterwards:
    """When the exception has left the block."""

    @pytest.mark.parametrize("cls", [json.JSONDecodeError, Slotted, Unknown, TimeoutError], ids=repr)
    def test_it_stays_the_dependencys(self, cls: Any) -> None:
        """An exception handler far away decides as the block would have, also for classes with slots."""
        exc = bad_json() if cls is json.JSONDecodeError else cls()
        with kommo:
            inside = classify(exc)
        assert inside == classify(left(kommo, exc))
        assert inside == classify(exc)

    def test_a_defect_with_slots_is_marked_all_the_same(self) -> None:
        """The mark does not go through the class."""
        exc = left(kommo, Slotted())
        assert "kommo" == exc.__dict__[MARK]

    def test_a_class_that_hides_its_dict_is_marked_all_the_same(self) -> None:
        """Every exception has a dict, whatever its class says of it."""
        exc = left(kommo, Hiding())
        assert ("internal.unexpected", Origin.DEPENDENCY, "kommo") == told(classify(exc))

    def test_the_inner_block_was_nearer(self) -> None:
        """Two blocks on the way out: the first one that it left counts."""
        exc = left(kommo, left(dependency("redis"), TimeoutError()))
        assert "redis" == classify(exc).dependency
        with kommo:
            assert "redis" == classify(exc).dependency

    def test_a_wrapper_that_is_raised_outside_means_what_it_wraps(self) -> None:
        """The mark of a cause counts, for what is known and for what is not."""
        for cause, code in ((TimeoutError(), "external.timeout"), (Unknown(), "internal.unexpected")):
            wrapper = RuntimeError() if code == "external.timeout" else Unknown()
            wrapper.__cause__ = left(kommo, cause)
            assert (code, Origin.DEPENDENCY, "kommo") == told(classify(wrapper))

    def test_a_cause_inside_the_block_belongs_to_it(self) -> None:
        """The mark is on the wrapper; what it wraps was raised in the same block."""
        wrapper = Unknown()
        wrapper.__cause__ = bad_json()
        assert KOMMOS == told(classify(left(kommo, wrapper)))
        wrapper.__cause__ = Unknown()
        assert ("internal.unexpected", Origin.DEPENDENCY, "kommo") == told(classify(wrapper))
        outside = Unknown()
        outside.__cause__ = wrapper
        assert ("internal.unexpected", Origin.DEPENDENCY, "kommo") == told(classify(outside))

    def test_a_group_and_its_leaves_are_marked(self) -> None:
        """`except*` takes a group apart and makes new ones; the leaves still know."""
        exc = left(kommo, ExceptionGroup("g", [ExceptionGroup("h", [bad_json()]), ConnectionRefusedError()]))
        assert KOMMOS == told(classify(exc))
        assert isinstance(exc, ExceptionGroup)
        part, _ = exc.split(ValueError)
        assert part is not None
        assert KOMMOS == told(classify(part))

    def test_the_mark_crosses_processes(self) -> None:
        """A pickled exception is still the dependency's."""
        exc = pickle.loads(pickle.dumps(left(kommo, Unknown())))  # noqa: S301
        assert "kommo" == classify(exc).dependency

    def test_an_exception_with_attributes_is_read_as_before(self) -> None:
        """A mark beside other attributes hides none of them."""
        request = httpx.Request("POST", "https://acme.kommo.com/api/v4/leads")
        exc = left(kommo, httpx.ReadTimeout("x", request=request))
        assert "kommo: A dependency did not answer in time: httpx.ReadTimeout, acme.kommo.com" == (
            classify(exc).detail
        )

    @given(st.one_of(st.none(), st.integers(), st.binary(), st.lists(st.text())))
    def test_a_strange_mark_is_none(self, value: object) -> None:
        """Somebody else's attribute of that name is passed over."""
        exc = KeyError()
        exc.__dict__[MARK] = value
        assert "internal.bug" == classify(exc).code

    def test_many_names_do_not_fill_the_memory(self) -> None:
        """A name for each tenant is a mistake, but no leak."""
        for number in range(500):
            with dependency(f"tenant-{number}"):
                assert f"tenant-{number}" == classify(TimeoutError()).dependency


class TestDecorator:
    """On functions."""

    def test_on_def(self) -> None:
        """The block is around each call; the signature stays."""

        @dependency("kommo")
        def fetch(lead_id: int) -> str:
            """Fetch it."""
            return f"{lead_id} of {in_force()}"

        assert "7 of kommo" == fetch(7)
        assert "" == in_force()
        assert "(lead_id: int) -> str" == str(inspect.signature(fetch))
        assert ("fetch", "Fetch it.") == (fetch.__name__, fetch.__doc__)

    async def test_on_async_def(self) -> None:
        """The block is open while the coroutine waits, in its own task only."""
        arrived, release = asyncio.Event(), asyncio.Event()

        @dependency("kommo")
        async def fetch(lead_id: int) -> str:
            arrived.set()
            await release.wait()
            return f"{lead_id} of {in_force()}"

        assert inspect.iscoroutinefunction(fetch)
        task = asyncio.create_task(fetch(7))
        await arrived.wait()
        assert "" == in_force()
        release.set()
        assert "7 of kommo" == await task

    async def test_on_methods(self) -> None:
        """Both kinds of methods, and the exception is marked."""

        class Client:
            @kommo
            def get(self) -> None:
                json.loads("<html>")

            @kommo
            async def aget(self) -> None:
                json.loads("<html>")

        assert KOMMOS == told(classify(caught(Client().get)))
        with pytest.raises(ValueError, match="Expecting value") as raised:
            await Client().aget()
        assert KOMMOS == told(classify(raised.value))

    async def test_it_follows_the_context(self) -> None:
        """Tasks and to_thread belong to the block that started them; a bare thread does not."""
        with kommo:
            assert "kommo" == await asyncio.to_thread(in_force)
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(asyncio.to_thread(in_force))
            with ThreadPoolExecutor(1) as pool:
                assert "" == pool.submit(in_force).result()
        assert "kommo" == task.result()

    def test_one_object_serves_recursion(self) -> None:
        """The same block may be open many times."""

        @kommo
        def down(depth: int) -> str:
            return down(depth - 1) if depth else in_force()

        assert "kommo" == down(5)
        assert "" == in_force()

    def test_a_block_closed_elsewhere_harms_nobody(self) -> None:
        """A generator that is closed in another context takes no block away there."""

        def generator() -> Generator[None]:
            with kommo:
                yield

        held = generator()
        copy_context().run(next, held)
        with dependency("redis"):
            held.close()
            assert "redis" == in_force()

    def test_what_it_cannot_hold_is_refused(self) -> None:
        """Generators, classes and values are refused where they are decorated."""

        def pages() -> Iterator[int]:
            yield 1

        async def apages() -> AsyncIterator[int]:
            yield 1

        for wrong, words in (
            (pages, "generator function"),
            (apages, "generator function"),
            (Unknown, "not on the class"),
            (staticmethod(in_force), "below @staticmethod"),
            (7, "a value of type int"),
        ):
            with pytest.raises(TypeError, match=words):
                kommo(wrong)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("name", "error"), [("", ValueError), (" ", ValueError), (7, TypeError)])
    def test_a_name_is_needed(self, name: Any, error: type[Exception]) -> None:
        """A dependency without a name is refused at once."""
        with pytest.raises(error, match="name"):
            dependency(name)

    def test_it_says_what_it_is(self) -> None:
        """The text of the object is the call that makes it."""
        assert "dependency('kommo')" == repr(kommo)
