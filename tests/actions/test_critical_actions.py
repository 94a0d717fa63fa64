"""Critical actions: on disk before they are tried, and done later when they failed."""

from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from types import MappingProxyType
from typing import Any

import pytest
from tests.actions.parts import Build, Part, Records, kind

from resilient_agents import DeadLetterQueue, Replayer, correlation
from resilient_agents.actions import AgentActions, Intent, Message, Status, key_of
from resilient_agents.deadletter import State
from resilient_agents.errors import OutcomeUnknown, Unreachable, ValidationFailed
from resilient_agents.testing import FakeClock


@pytest.mark.parametrize(
    ("build", "replay"),
    [(kind("blocking"), Replayer.run_once), (kind("awaiting"), Replayer.arun_once)],
    ids=["def", "async def"],
)
class TestBothKinds:
    """What is ``def`` and what is ``async def`` is kept alike."""

    async def test_done_at_once(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue, records: Records
    ) -> None:
        """It is tried, and its line in the ledger says that it was done."""
        handle = build(Part("track"), None, Part("paid"), queue=queue, critical=True, activity=records)

        outcome = await handle(message)

        assert (Status.DONE, "paid", 1) == (outcome.status, outcome.result, outcome.entry_id)
        assert [("agent.intent", "ok"), ("agent.action", "ok")] == records.told

    async def test_three_attempts_then_the_queue(
        self,
        build: Build,
        replay: Any,
        message: Message,
        queue: DeadLetterQueue,
        records: Records,
        clock: FakeClock,
    ) -> None:
        """What cannot be sent is tried three times, queued, and done by a replayer with all it needs."""
        action = Part("paid", *(Unreachable() for _ in range(3)))
        handle = build(Part("track"), Part({"deal": 1}), action, queue=queue, critical=True, activity=records)

        outcome = await handle(message)

        assert 3 == len(action.calls)
        assert (Status.QUEUED, 1) == (outcome.status, outcome.entry_id)
        assert [("action", "external.unreachable")] == [(s.step, s.code) for s in outcome.degraded]

        clock.advance(3600)
        await settled(replay(Replayer(queue)))

        assert (message, Intent(name="track"), {"deal": 1}) == action.calls[-1]
        assert 4 == len(action.calls)
        assert {State.DELIVERED: 1} == {s: n for s, n in queue.stats().states.items() if n}
        assert [("agent.action", "error"), ("agent.action", "queued"), ("agent.action", "ok")] == (
            records.told[-3:]
        )

    async def test_in_doubt_it_is_not_repeated(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue
    ) -> None:
        """What may have been done is not done again, but waits for somebody who can tell."""
        action = Part("paid", OutcomeUnknown())

        outcome = await build(Part("track"), None, action, queue=queue, critical=True)(message)

        assert 1 == len(action.calls)
        assert Status.QUEUED is outcome.status
        assert [State.PARKED] == [entry.state for entry in queue.entries()]

    async def test_in_doubt_it_is_looked_up(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue, clock: FakeClock
    ) -> None:
        """A reconcile function is asked with what the action had, and its answer settles the entry."""
        look = Part("payment-9")
        action = Part("paid", OutcomeUnknown())
        name = "blocking" if replay is Replayer.run_once else "awaiting"
        handle = build(Part("track"), None, action, queue=queue, critical=True, reconcile=getattr(look, name))
        await handle(message)
        clock.advance(3600)

        await settled(replay(Replayer(queue)))

        assert [(message, Intent(name="track"), None)] == look.calls
        assert 1 == len(action.calls)
        assert "payment-9" == queue.get("agent.action.track", key_of(message)).reference  # type: ignore[union-attr]

    async def test_idempotent_is_repeated(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue
    ) -> None:
        """What is harmless to repeat is repeated at once."""
        action = Part("paid", OutcomeUnknown(), OutcomeUnknown())
        handle = build(Part("track"), None, action, queue=queue, critical=True, idempotent=True)

        assert Status.DONE is (await handle(message)).status
        assert 3 == len(action.calls)

    async def test_the_same_message_again(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue
    ) -> None:
        """A message that comes twice acts once, even where its context has changed."""
        action, context = Part("paid"), Part({"deal": 1})
        handle = build(Part("track"), context, action, queue=queue, critical=True)
        first = await handle(message)
        context.answer = {"deal": 2}

        second = await handle(message)

        assert 1 == len(action.calls)
        assert (Status.DONE, first.entry_id, None) == (second.status, second.entry_id, second.result)

    @pytest.mark.parametrize(
        "other",
        [
            {"organization_id": "org-8"},
            {"agent_id": "a-43"},
            {"organization_id": "org-7/a-42", "agent_id": ""},
        ],
    )
    async def test_the_same_id_of_somebody_else(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue, other: dict[str, Any]
    ) -> None:
        """Two organisations, and two agents of one, may have a message of the same id: both are done."""
        action = Part("paid")
        handle = build(Part("track"), None, action, queue=queue, critical=True)
        first = await handle(message)

        second = await handle(replace(message, **other))

        assert ("paid", "paid") == (first.result, second.result)
        assert first.entry_id != second.entry_id

    async def test_a_message_without_an_id(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue
    ) -> None:
        """All messages without an id would be one and the same: such a one is refused."""
        handle = build(Part("track"), None, Part("paid"), queue=queue, critical=True)

        with pytest.raises(ValidationFailed, match=r"message\.id"):
            await handle(replace(message, id=""))

    async def test_a_record_that_cannot_be_made(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue
    ) -> None:
        """What was done is done, and is not repeated because it cannot be put on record."""

        class Full:
            def record(self, action: str, **record: Any) -> None:
                raise OSError

        action = Part("paid")
        handle = build(Part("track"), None, action, queue=queue, critical=True, activity=Full())

        outcome = await handle(message)

        assert (Status.DONE, (), 1) == (outcome.status, outcome.degraded, len(action.calls))
        assert {} == {state: n for state, n in queue.stats().states.items() if n and state != "delivered"}

    @pytest.mark.parametrize("odd", [object(), Lock()], ids=["object", "lock"])
    async def test_what_cannot_be_stored(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue, odd: object
    ) -> None:
        """A critical action that cannot be stored is no degradation: nothing was accepted, and it says so."""
        handle = build(Part("track"), None, Part("paid"), queue=queue, critical=True)

        with pytest.raises(ValidationFailed, match="payload"):
            await handle(replace(message, data={"when": odd}))

    async def test_any_mapping_is_stored(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue
    ) -> None:
        """What the types allow can be stored: a mapping need not be a dictionary."""
        action = Part("paid")
        frozen = MappingProxyType({"deal": 1})
        intent = Part(Intent(name="track", data=frozen))

        await build(intent, Part(frozen), action, queue=queue, critical=True)(replace(message, data=frozen))

        ((stored, meant, context),) = action.calls
        assert [{"deal": 1}] * 3 == [stored.data, meant.data, context]

    async def test_replay_knows_the_request(
        self, build: Build, replay: Any, message: Message, queue: DeadLetterQueue, clock: FakeClock
    ) -> None:
        """An action that is replayed later carries the id of the request that it came from."""
        seen: list[str | None] = []

        class Spy(Part):
            def blocking(self, *args: Any) -> Any:
                seen.append(correlation.current().get("request_id"))
                return super().blocking(*args)

        handle = build(Part("track"), None, Spy("paid", *[Unreachable()] * 3), queue=queue, critical=True)
        with correlation.bind(request_id="r-1"):
            await handle(message)
        clock.advance(3600)

        await settled(replay(Replayer(queue)))

        assert ["r-1"] * 4 == seen


async def settled(value: Any) -> Any:
    """Await what must be awaited."""
    return await value if hasattr(value, "__await__") else value


def test_critical_after_a_restart(tmp_path: Any, message: Message, clock: FakeClock) -> None:
    """A process that starts anew finds what the last one left, and does it."""
    url = f"sqlite:///{tmp_path}/actions.db"

    def start(queue: DeadLetterQueue, action: Callable[..., Any]) -> AgentActions:
        actions = AgentActions(Part("track").blocking, queue=queue)
        actions.on("track", critical=True)(action)
        return actions

    with DeadLetterQueue(url) as queue:
        start(queue, Part("paid", *[Unreachable()] * 3).blocking).handle_blocking(message)
    clock.advance(3600)
    action = Part("paid")
    with DeadLetterQueue(url) as queue:
        start(queue, action.blocking)
        Replayer(queue).run_once()

    assert [(message, Intent(name="track"), None)] == action.calls
