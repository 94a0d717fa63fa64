"""Flows of the cache, advanced one half step at a time in an order that a test chooses."""

from asyncio import CancelledError
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from resilient_agents._clock import clock
from resilient_agents._flow import Flow
from resilient_agents.cache._flights import Flight
from resilient_agents.cache.store import Half, Store


class Bell:
    """A bell that is heard when its strand is next advanced."""

    def __init__(self) -> None:
        self.rung = False

    def ring(self) -> bool:
        """Ring."""
        self.rung = True
        return True

    def wait(self, seconds: float | None) -> "Bell":
        """Park the strand."""
        return self


class Strand:
    """One flow under way. A step is made by one advance, and its answer handed over by the next."""

    def __init__(self, flow: Flow[Any], name: str = "", ended: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self._ended = ended
        self.done = False
        self.cancelled = False
        self.result: Any = None
        self.failure: Exception | None = None
        self._flow = flow
        self._context = copy_context()
        self._step: Callable[[], Any] | None = None
        self._answer: tuple[Any, Exception | None] | None = (None, None)

    @property
    def ready(self) -> bool:
        """Whether it can be advanced: it is not over, and does not wait for a bell that is silent."""
        waits = self._answer is not None and isinstance(self._answer[0], Bell)
        return not self.done and not (waits and not self._answer[0].rung)  # type: ignore[index]

    def advance(self) -> None:
        """Make its step, or hand over the answer."""
        if self._answer is None:
            assert self._step is not None
            try:
                self._answer = (self._context.run(self._step), None)
            except Exception as exc:
                self._answer = (None, exc)
            return
        (value, failure), self._answer = self._answer, None
        try:
            if failure is not None:
                self._step = self._context.run(self._flow.throw, failure)
            else:
                sent = True if isinstance(value, Bell) else value
                self._step = self._context.run(self._flow.send, sent)
        except StopIteration as stop:
            self.done, self.result = True, stop.value
        except CancelledError:  # the load that it led was cancelled
            self.done = self.cancelled = True
        except Exception as exc:
            self.done, self.failure = True, exc

    def cancel(self) -> None:
        """Close the flow where it is, as a cancelled task does."""
        self.done = self.cancelled = True
        self._context.run(self._flow.close)
        self._ended()


class Steps:
    """A way of performing flows: by strands, which a test advances."""

    def __init__(self, *, inline: bool) -> None:
        self.inline = inline
        self.waiting: Any = self
        self.strands: list[Strand] = []

    def start(self, flow: Flow[Any], name: str = "") -> Strand:
        """Add a strand."""
        strand = Strand(flow, name)
        self.strands.append(strand)
        return strand

    def half(self, store: Store) -> Half:
        """Return the half whose steps are made at once."""
        return store.blocking

    def place(self) -> object:
        """Return what all strands have in common."""
        return None

    def begin(self, flight: Flight, flow: Callable[[], Flow[Any]], ended: Callable[[], None]) -> bool:
        """Add a strand for a load."""
        strand = Strand(flow(), "load", ended)
        self.strands.append(strand)
        flight.task = strand  # type: ignore[assignment]
        return True

    def afterwards(self, step: Callable[[], Any]) -> None:
        """Make a step at once."""
        try:
            step()
        except Exception:
            return

    def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        clock().sleep(seconds)

    def bell(self) -> Bell:
        """Return a new bell."""
        return Bell()

    def finish(self) -> None:
        """Advance all strands, in turns, to their ends."""
        while live := [strand for strand in self.strands if strand.ready]:
            for strand in live:
                if strand.ready:
                    strand.advance()
