"""How a critical action is handed in: under which key, and as which payload."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from resilient_agents import correlation
from resilient_agents._flow import Flow, arun, run
from resilient_agents.actions.message import Intent, Message
from resilient_agents.deadletter import DeadLetterQueue, queries
from resilient_agents.deadletter.delivery import Perform, receipt_of
from resilient_agents.deadletter.entry import Receipt, check_label
from resilient_agents.errors import Conflict
from resilient_agents.policies._functions import is_awaited

TOPIC = "agent.action."
"""What the topics of critical actions begin with; the intent's name follows."""


def key_of(message: Message) -> str:
    """Return the key of a message's critical actions in the queue, like ``"1/42/wa-118"``.

    It is the organisation, the agent and the id, with ``/`` as ``%2F`` and ``%`` as ``%25``. Two
    organisations may well have a message of the same id.

    Args:
        message: The message.

    Raises:
        ValidationFailed: It has no id, or all three are longer than a key may be.
    """
    parts = (message.organization_id, message.agent_id, check_label(message.id, field="message.id"))
    return check_label("/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts), field="key")


def hand_in(queue: DeadLetterQueue, *work: Any) -> Receipt[Any]:
    """Store a critical action and try it, blocking."""
    return run(_handed_in(queue, queue.blocking, *work))


async def ahand_in(queue: DeadLetterQueue, *work: Any) -> Receipt[Any]:
    """Store a critical action and try it, awaiting."""
    return await arun(_handed_in(queue, queue.awaiting, *work))


def _handed_in(
    queue: DeadLetterQueue,
    perform: Perform,
    message: Message,
    intent: Intent,
    context: Mapping[str, Any] | None,
) -> Flow[Receipt[Any]]:
    """Store a critical action and try it, unless its message was handed in before."""
    topic, key = TOPIC + intent.name, key_of(message)
    payload = _packed(message, intent, context)
    try:
        return (yield from queue.hand_in(perform, topic, payload, key=key))
    except Conflict:  # the same message, seen with another context
        entry = yield partial(perform, queries.find(topic, key))
        if entry is None:
            raise
        return receipt_of(entry)


def _packed(message: Message, intent: Intent, context: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a critical action needs as what can be stored; the queue checks it."""
    return {
        "message": {
            "id": message.id,
            "organization_id": message.organization_id,
            "agent_id": message.agent_id,
            "text": message.text,
            "data": _plain(message.data),
        },
        "intent": {"name": intent.name, "data": _plain(intent.data)},
        "context": _plain(context),
        "correlation": dict(correlation.current()),
    }


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def unpacked(payload: Mapping[str, Any]) -> tuple[Message, Intent, Mapping[str, Any] | None]:
    """Return what `_packed` was given."""
    return Message(**payload["message"]), Intent(**payload["intent"]), payload["context"]


def with_arguments(reconcile: Callable[..., Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return *reconcile* as a function of a stored action."""
    if is_awaited(reconcile):

        async def alook(payload: Mapping[str, Any]) -> Any:
            return await reconcile(*unpacked(payload))

        return alook
    return lambda payload: reconcile(*unpacked(payload))
