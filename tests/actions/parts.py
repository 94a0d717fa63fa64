"""What `AgentActions` is made of, for tests: parts that fail when told to, and a record."""

from collections.abc import Callable
from typing import Any

from resilient_agents.actions import AgentActions, Message, Outcome


class Records(list[dict[str, Any]]):
    """Takes records as an activity log does."""

    def record(self, action: str, **record: Any) -> None:
        """Take one."""
        self.append({"action": action, **record})

    @property
    def told(self) -> list[tuple[str, str]]:
        """What happened, and how it ended."""
        return [(record["action"], str(record["status"])) for record in self]


class Part:
    """A function that fails with the next of the errors it was given, or answers."""

    def __init__(self, answer: Any, *errors: Exception) -> None:
        self.answer = answer
        self.errors = list(errors)
        self.calls: list[tuple[Any, ...]] = []

    def blocking(self, *args: Any) -> Any:
        """Answer, or fail."""
        self.calls.append(args)
        if self.errors:
            raise self.errors.pop(0)
        return self.answer

    async def awaiting(self, *args: Any) -> Any:
        """Answer, or fail, awaiting."""
        return self.blocking(*args)


Build = Callable[..., Callable[[Message], Any]]


def kind(name: str) -> Build:
    """Return what builds actions of the parts' methods of that *name*, and returns their awaited handle."""

    def build(intent: Part, context: Part | None, action: Part | None, **options: Any) -> Any:
        on = {key: options.pop(key) for key in ("critical", "idempotent", "reconcile") if key in options}
        source = None if context is None else getattr(context, name)
        actions = AgentActions(getattr(intent, name), context=source, **options)
        if action is not None:
            actions.on("track", **on)(getattr(action, name))

        async def handle(message: Message) -> Outcome:
            return await actions.handle(message) if name == "awaiting" else actions.handle_blocking(message)

        return handle

    return build
