"""`AgentActions`: three steps, each of which may fail, and none takes the message down."""

from typing import Any

import pytest
from tests.actions.parts import Build, Part, Records, kind

from resilient_agents import correlation
from resilient_agents.actions import AgentActions, Degradation, Intent, Message, Status
from resilient_agents.errors import ConfigurationError, OutcomeUnknown, Unreachable
from resilient_agents.testing import FakeClock


@pytest.mark.parametrize("build", [kind("blocking"), kind("awaiting")], ids=["def", "async def"])
class TestBothKinds:
    """What is ``def`` and what is ``async def`` is handled alike."""

    async def test_all_goes_well(self, build: Build, message: Message, records: Records) -> None:
        """The action gets the message, the intent and the context; each step is recorded with its time."""
        action = Part("sent")
        handle = build(
            Part(Intent(name="track", data={"order": 7})), Part({"deal": 1}), action, activity=records
        )

        outcome = await handle(message)

        intent = Intent(name="track", data={"order": 7})
        assert [(message, intent, {"deal": 1})] == action.calls
        assert (Status.DONE, "sent", ()) == (outcome.status, outcome.result, outcome.degraded)
        assert [("agent.intent", "ok"), ("agent.context", "ok"), ("agent.action", "ok")] == records.told
        assert {("org-7", "a-42", 0.0)} == {
            (record["organization_id"], record["agent_id"], record["duration_ms"]) for record in records
        }

    async def test_an_analysis_is_tried_twice(self, build: Build, message: Message) -> None:
        """One failure that may pass is not the end of an analysis."""
        intent = Part("track", Unreachable())

        outcome = await build(intent, None, Part("sent"))(message)

        assert 2 == len(intent.calls)
        assert (Status.DONE, ()) == (outcome.status, outcome.degraded)

    async def test_without_an_analysis(self, build: Build, message: Message, records: Records) -> None:
        """After two failures the intent is other, and the outcome says why."""
        intent = Part("track", Unreachable(), Unreachable("the model is down"), Unreachable())

        outcome = await build(intent, None, Part("sent"), activity=records)(message)

        assert 2 == len(intent.calls)
        assert (Intent(name="other"), Status.UNHANDLED) == (outcome.intent, outcome.status)
        why = Degradation(step="intent", code="external.unreachable", detail="the model is down")
        assert (why,) == outcome.degraded
        assert [("agent.intent", "error"), ("agent.action", "unhandled")] == records.told

    async def test_without_a_context(self, build: Build, message: Message) -> None:
        """After two failures the action goes on without a context."""
        context, action = Part({}, OutcomeUnknown(), OutcomeUnknown()), Part("sent")

        outcome = await build(Part("track"), context, action)(message)

        assert 2 == len(context.calls)
        assert [(message, Intent(name="track"), None)] == action.calls
        assert Status.DONE is outcome.status
        assert ["context"] == [step.step for step in outcome.degraded]

    async def test_an_action_that_is_not_critical(
        self, build: Build, message: Message, records: Records
    ) -> None:
        """It is tried once, left out, and recorded."""
        action = Part("sent", Unreachable())

        outcome = await build(Part("track"), None, action, activity=records)(message)

        assert 1 == len(action.calls)
        assert (Status.SKIPPED, None) == (outcome.status, outcome.result)
        assert ["external.unreachable"] == [step.code for step in outcome.degraded]
        assert [("agent.intent", "ok"), ("agent.action", "error")] == records.told
        assert isinstance(records[1]["error"], Unreachable)

    async def test_the_work_knows_whom_it_is_for(self, build: Build, message: Message) -> None:
        """Organisation and agent are bound in each step, and unbound afterwards."""
        seen: list[Any] = []

        class Spy(Part):
            def blocking(self, *args: Any) -> Any:
                seen.append(dict(correlation.current()))
                return super().blocking(*args)

        await build(Spy("track"), Spy({}), Spy("sent"))(message)

        assert [{"organization_id": "org-7", "agent_id": "a-42"}] * 3 == seen
        assert {} == dict(correlation.current())

    @pytest.mark.parametrize(
        "answer",
        [None, "", 7, {"intent": "track"}, Intent(name=["track"]), Intent(name="")],  # type: ignore[arg-type]
    )
    async def test_nonsense_is_other(self, build: Build, message: Message, answer: Any) -> None:
        """An analyser that answers with anything but an intent or its name has not found one."""
        outcome = await build(Part(answer), None, Part("sent"))(message)

        assert Intent(name="other") == outcome.intent

    async def test_a_dead_model_is_left_alone(self, build: Build, message: Message) -> None:
        """After enough failures the analyser is not asked any more: its circuit is open."""
        intent = Part("track", *(Unreachable() for _ in range(1000)))
        handle = build(intent, None, Part("sent"))
        for _ in range(50):
            await handle(message)
        calls = len(intent.calls)

        outcome = await handle(message)

        assert calls == len(intent.calls)
        assert ["external.circuit_open"] == [step.code for step in outcome.degraded]

    async def test_duration(self, build: Build, message: Message, clock: FakeClock) -> None:
        """The outcome says how long it all took."""

        class Slow(Part):
            def blocking(self, *args: Any) -> Any:
                clock.advance(0.25)
                return super().blocking(*args)

        outcome = await build(Slow("track"), None, Slow("sent"))(message)

        assert 500.0 == outcome.duration_ms


async def test_plain_functions_are_called_in_threads(message: Message) -> None:
    """A blocking handler does not stop the loop of `handle`."""
    actions = AgentActions(Part("track").blocking)
    actions.on("track")(Part("sent").blocking)

    assert "sent" == (await actions.handle(message)).result


async def test_an_awaitable_that_nobody_awaits(message: Message, records: Records) -> None:
    """What is no ``async def`` and returns an awaitable has done nothing, and does not pass for done."""
    part = Part("sent")
    actions = AgentActions(lambda message: "track", activity=records)
    actions.on("track")(lambda message, intent, context: part.awaiting(message))

    outcome = await actions.handle(message)

    assert Status.SKIPPED is outcome.status
    assert ["internal.configuration"] == [step.code for step in outcome.degraded]
    assert ("agent.action", "error") == records.told[-1]


def test_blocking_handle_cannot_await(message: Message) -> None:
    """An ``async def`` in a blocking handle is refused in words."""
    actions = AgentActions(Part("track").awaiting)

    with pytest.raises(TypeError, match="use handle"):
        actions.handle_blocking(message)


def test_one_intent_one_handler() -> None:
    """A second handler for an intent is refused."""
    actions = AgentActions(Part("track").blocking)
    actions.on("track")(Part("sent").blocking)

    with pytest.raises(ConfigurationError, match="has a handler"):
        actions.on("track")(Part("sent").blocking)


def test_critical_needs_a_queue() -> None:
    """A critical action without a queue would be lost in a crash, and is refused."""
    actions = AgentActions(Part("track").blocking)

    with pytest.raises(ConfigurationError, match="give AgentActions a queue"):
        actions.on("pay", critical=True)(Part("paid").blocking)


def test_nobody_reads_the_text_in_a_repr(message: Message) -> None:
    """What people write is not shown by accident."""
    assert "order" not in repr(message)
