"""`protect`: a function whose arguments are on disk before it is called."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from resilient_agents import DeadLetterQueue, Delivered, Queued, Replayer
from resilient_agents.deadletter import State
from resilient_agents.errors import ConfigurationError, Conflict, Unreachable, ValidationFailed
from resilient_agents.testing import FakeClock


class Mailer:
    """Sends invoices, or fails with the next of the errors it was given."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[tuple[str, int]] = []

    def send(self, invoice_id: str, copies: int = 1) -> str:
        """Send one."""
        self.calls.append((invoice_id, copies))
        if self.errors:
            raise self.errors.pop(0)
        return f"mail-{invoice_id}"

    async def asend(self, invoice_id: str, copies: int = 1) -> str:
        """Send one, awaiting."""
        return self.send(invoice_id, copies)


Call = Callable[..., Any]


def form(name: str) -> Callable[[DeadLetterQueue, Mailer], tuple[Call, Call]]:
    """Return what protects a mailer's method of that *name*, and replays with the fitting driver."""

    def protected(queue: DeadLetterQueue, mailer: Mailer) -> tuple[Call, Call]:
        protector = queue.protect("invoice", key="{invoice_id}", idempotent=True)
        function: Call = protector(getattr(mailer, name))

        async def call(*args: Any, **kwargs: Any) -> Any:
            receipt = function(*args, **kwargs)
            return await receipt if inspect.isawaitable(receipt) else receipt

        async def replay() -> Any:
            replayer = Replayer(queue)
            return await replayer.arun_once() if name == "asend" else replayer.run_once()

        return call, replay

    return protected


@pytest.mark.parametrize("protected", [form("send"), form("asend")], ids=["def", "async def"])
class TestBothKinds:
    """A ``def`` and an ``async def`` are protected alike."""

    async def test_delivered(self, queue: DeadLetterQueue, protected: Any) -> None:
        """A call that works gives the function's value, and its line in the ledger."""
        call, _ = protected(queue, mailer := Mailer())

        receipt = await call("7", copies=2)

        assert Delivered(entry_id=1, reference="mail-7", value="mail-7") == receipt
        assert [("7", 2)] == mailer.calls
        assert {State.DELIVERED: 1} == {state: n for state, n in queue.stats().states.items() if n}

    async def test_repeated(self, queue: DeadLetterQueue, protected: Any) -> None:
        """The same call again does nothing: the receipt has the reference, and no value."""
        call, _ = protected(queue, mailer := Mailer())
        await call("7")

        assert Delivered(entry_id=1, reference="mail-7", value=None) == await call(invoice_id="7", copies=1)
        assert 1 == len(mailer.calls)
        with pytest.raises(Conflict):
            await call("7", copies=3)

    async def test_failed(self, queue: DeadLetterQueue, clock: FakeClock, protected: Any) -> None:
        """A call that fails is no exception for the caller; a replayer makes it again."""
        call, replay = protected(queue, mailer := Mailer(Unreachable()))

        receipt = await call("7", copies=2)

        assert (
            Queued(entry_id=1, due=receipt.due, state=State.SCHEDULED, code="external.unreachable") == receipt
        )
        assert clock.time() < receipt.due <= clock.time() + 1
        clock.advance(1)
        assert 1 == (await replay()).delivered
        assert [("7", 2), ("7", 2)] == mailer.calls
        assert "mail-7" == (await call("7", copies=2)).reference

    async def test_arguments_that_cannot_be_stored(self, queue: DeadLetterQueue, protected: Any) -> None:
        """What could not be called again is not called at all."""
        call, _ = protected(queue, mailer := Mailer())

        with pytest.raises(ValidationFailed, match="cannot be stored as JSON"):
            await call("7", copies=object())
        with pytest.raises(TypeError, match="missing a required argument: 'invoice_id'"):
            await call()
        assert [] == mailer.calls
        assert [] == queue.entries()


def test_signature_is_kept(queue: DeadLetterQueue) -> None:
    """To `inspect` and to readers, the protected function looks as before."""

    def send(invoice_id: str, *, copies: int = 1) -> str:
        """Send an invoice."""
        return invoice_id * copies

    async def asend(invoice_id: str) -> str:
        return invoice_id

    protected = queue.protect("a", key="{invoice_id}")(send)

    assert inspect.signature(send) == inspect.signature(protected)
    assert ("send", "Send an invoice.") == (protected.__name__, protected.__doc__)
    assert not inspect.iscoroutinefunction(protected)
    assert inspect.iscoroutinefunction(queue.protect("b", key="{invoice_id}")(asend))


def test_parts_of_arguments_in_the_key(queue: DeadLetterQueue) -> None:
    """A key may be made of parts of the arguments."""

    @queue.protect("t", key="{order[id]}-{kind}")
    def ship(order: dict[str, str], kind: str = "x") -> None:
        assert order
        assert kind

    ship({"id": "5"})

    assert queue.get("t", "5-x") is not None


def test_key_of_an_unknown_argument(queue: DeadLetterQueue) -> None:
    """A key that could never be filled in is refused when the function is decorated."""
    with pytest.raises(ConfigurationError, match=r"key '\{invoice\}' names an argument"):
        queue.protect("t", key="{invoice}")(Mailer().send)


@pytest.mark.parametrize("function", [lambda *a: a, lambda **k: k, lambda a, /: a])
def test_arguments_without_names(queue: DeadLetterQueue, function: Call) -> None:
    """Arguments are stored by name, so a function that takes others is refused, and its topic stays free."""
    with pytest.raises(ConfigurationError, match="takes named arguments only"):
        queue.protect("t", key="k")(function)
    assert {} == queue.targets


def test_one_function_a_topic(queue: DeadLetterQueue) -> None:
    """Two functions cannot share a topic."""
    queue.handler("t")(print)

    with pytest.raises(ConfigurationError, match="has a handler already"):
        queue.protect("t", key="{invoice_id}")(Mailer().send)
