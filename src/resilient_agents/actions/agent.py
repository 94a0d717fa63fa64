"""`AgentActions`: intent, context, action."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from resilient_agents import correlation
from resilient_agents._clock import clock
from resilient_agents._flow import Flow, arun, run
from resilient_agents.actions._steps import Performer, awaiting, blocking, intent_of, settled
from resilient_agents.actions._stored import TOPIC, ahand_in, hand_in, unpacked, with_arguments
from resilient_agents.actions.message import (
    ContextSource,
    Degradation,
    Intent,
    IntentAnalyzer,
    Message,
    Outcome,
    Recorder,
    Status,
)
from resilient_agents.deadletter import DeadLetterQueue, Delivered
from resilient_agents.deadletter.target import Handler
from resilient_agents.errors import ConfigurationError, classify
from resilient_agents.policies import CircuitBreaker, Pipeline, RetryPolicy, timeout
from resilient_agents.policies._functions import is_awaited, must_be_awaited

F = TypeVar("F", bound=Callable[..., Any])

_log = logging.getLogger("resilient_agents.actions")


@dataclass(frozen=True, slots=True)
class _Action:
    """A registered action: its handler under its policy, and the queue that a critical one goes through."""

    call: Callable[..., Any]
    queue: DeadLetterQueue | None


class AgentActions:
    """Handles messages: intent, context, action.

    Args:
        analyze: Finds out what a message asks for.
        context: Looks up what is known. The default is *None*: actions go without.
        activity: Where every outcome is recorded. The default is *None*: nowhere.
        queue: Where critical actions are kept until they are done. The default is *None*: there are none.
        intent_policy: A decorator for *analyze*. The default is two attempts of 10 seconds each, behind a
            circuit breaker.
        context_policy: A decorator for *context*. The default is two attempts of 5 seconds each, behind a
            circuit breaker.

    Raises:
        TypeError: *analyze* or *context* is no function.
    """

    def __init__(
        self,
        analyze: IntentAnalyzer,
        *,
        context: ContextSource | None = None,
        activity: Recorder | None = None,
        queue: DeadLetterQueue | None = None,
        intent_policy: Callable[[Any], Any] | None = None,
        context_policy: Callable[[Any], Any] | None = None,
    ) -> None:
        self._analyze = (intent_policy or _reading("agent.intent", 10.0))(analyze)
        reading = context_policy or _reading("agent.context", 5.0)
        self._context = None if context is None else reading(context)
        self._activity = activity
        self._queue = queue
        self._actions: dict[str, _Action] = {}

    def on(
        self,
        intent: str,
        *,
        critical: bool = False,
        idempotent: bool = False,
        reconcile: Callable[..., Any] | None = None,
        grace: float = 60.0,
        policy: Callable[[Any], Any] | None = None,
    ) -> Callable[[F], F]:
        """Return a decorator that makes a function the handler of an intent.

        Args:
            intent: The intent's name; ``"other"`` is the one of messages that could not be analysed.
            critical: Whether it must be done: it is then on disk before it is tried, tried up to three
                times at once, and later by a `Replayer`. The default is *False*: it is tried once.
            idempotent: Whether doing it twice is harmless. The default is *False*.
            reconcile: As for `DeadLetterQueue.handler`; it is given the message, the intent and the context.
            grace: As for `DeadLetterQueue.handler`; more than one call takes at most. The default is 60
                seconds.
            policy: A decorator for the function. The default for a critical one is three attempts of 15
                seconds each, of which a later one is made only where nothing was sent or the action is
                idempotent; for any other it is a `timeout` of 30 seconds.

        Raises:
            ConfigurationError: The intent has a handler, or there is no queue for a critical action.
            TypeError: What is decorated is no function.
        """

        def register(function: F) -> F:
            if intent in self._actions:
                raise ConfigurationError(f"intent {intent!r} has a handler already: one intent, one handler")
            awaited = must_be_awaited(function, "on")
            call = (policy or (_acting(idempotent) if critical else timeout(30.0)))(function)
            queue = self._queue if critical else None
            if critical:
                if queue is None:
                    raise ConfigurationError(
                        f"the action {intent!r} is critical and would be lost in a crash: give AgentActions a"
                        " queue"
                    )
                deliver = partial(self._adeliver if awaited else self._deliver, call)
                look = None if reconcile is None else with_arguments(reconcile)
                target = Handler(deliver, reconcile=look, idempotent=idempotent, grace=grace)
                queue.attach(TOPIC + intent, target)
            self._actions[intent] = _Action(call, queue)
            return function

        return register

    async def handle(self, message: Message) -> Outcome:
        """Handle a message. What is not ``async def`` is called in a thread.

        Args:
            message: The message.

        Returns:
            What became of it; a failed step is no exception.

        Raises:
            StorageFailure: A critical action could not be stored: nothing was accepted, hand it in again.
            ValidationFailed: A critical action cannot be stored, as something in it is no JSON value.
        """
        return await arun(self._handled(message, awaiting))

    def handle_blocking(self, message: Message) -> Outcome:
        """Do what `handle` does, without an event loop; every function must be a plain ``def``.

        Raises:
            TypeError: One of the functions must be awaited.
            StorageFailure: As for `handle`.
            ValidationFailed: As for `handle`.
        """
        return run(self._handled(message, blocking))

    def _handled(self, message: Message, step: Performer) -> Flow[Outcome]:
        """Take the three steps; each says what is done without."""
        started = clock().monotonic()
        degraded: list[Degradation] = []
        context = None
        with correlation.bind(organization_id=message.organization_id, agent_id=message.agent_id):
            answer = yield from self._degrading("intent", message, step(self._analyze, message), degraded)
            intent = intent_of(answer)
            if self._context is not None:
                look_up = step(self._context, message, intent)
                context = yield from self._degrading("context", message, look_up, degraded)
            status, result, entry_id = yield from self._acted(message, intent, context, step, degraded)
        return Outcome(
            intent=intent,
            status=status,
            result=result,
            degraded=tuple(degraded),
            entry_id=entry_id,
            duration_ms=_since(started),
        )

    def _acted(
        self,
        message: Message,
        intent: Intent,
        context: Mapping[str, Any] | None,
        step: Performer,
        degraded: list[Degradation],
    ) -> Flow[tuple[Status, Any, int | None]]:
        """Do what is asked for."""
        action = self._actions.get(intent.name)
        if action is None:
            self._record("agent.action", message, {"intent": intent.name}, status=Status.UNHANDLED)
            return Status.UNHANDLED, None, None
        if action.queue is None:
            before = len(degraded)
            act = step(action.call, message, intent, context)
            result = yield from self._degrading("action", message, act, degraded, intent=intent.name)
            return (Status.DONE if len(degraded) == before else Status.SKIPPED), result, None
        store = ahand_in if is_awaited(action.call) else hand_in
        receipt = yield step(store, action.queue, message, intent, context)
        if isinstance(receipt, Delivered):
            return Status.DONE, receipt.value, receipt.entry_id
        code = receipt.code or "external.unavailable"
        degraded.append(Degradation(step="action", code=code, detail=f"it is stored, and {receipt.state}"))
        self._record("agent.action", message, {"intent": intent.name, "code": code}, status=Status.QUEUED)
        return Status.QUEUED, None, receipt.entry_id

    def _degrading(
        self, name: str, message: Message, step: Callable[[], Any], degraded: list[Degradation], **known: str
    ) -> Flow[Any]:
        """Take a step that can be done without."""
        try:
            return (yield from self._recording(name, message, step, **known))
        except Exception as exc:
            failure = classify(exc)
            degraded.append(Degradation(step=name, code=failure.code, detail=failure.detail))
            return None

    def _recording(self, name: str, message: Message, step: Callable[[], Any], **known: str) -> Flow[Any]:
        """Take a step, and record what became of it."""
        started = clock().monotonic()
        try:
            value = settled((yield step))
        except Exception as exc:
            self._record(f"agent.{name}", message, known, status="error", started=started, error=exc)
            raise
        self._record(f"agent.{name}", message, known, status="ok", started=started)
        return value

    def _record(
        self,
        action: str,
        message: Message,
        known: Mapping[str, str],
        *,
        status: str,
        started: float | None = None,
        error: Exception | None = None,
    ) -> None:
        """Put on record what became of a step, which is what it is whether or not that can be recorded."""
        if self._activity is None:
            return
        try:
            self._activity.record(
                action,
                organization_id=message.organization_id,
                agent_id=message.agent_id,
                metadata={"message_id": message.id, **known},
                status=status,
                duration_ms=None if started is None else _since(started),
                error=error,
            )
        except Exception:
            _log.exception("the activity %s of message %s could not be recorded", action, message.id)

    def _deliver(self, call: Callable[..., Any], payload: Mapping[str, Any]) -> Any:
        """Do a stored action, blocking."""
        with correlation.bind(**payload["correlation"]):
            return run(self._delivering(call, payload))

    async def _adeliver(self, call: Callable[..., Any], payload: Mapping[str, Any]) -> Any:
        """Do a stored action, awaiting."""
        with correlation.bind(**payload["correlation"]):
            return await arun(self._delivering(call, payload))

    def _delivering(self, call: Callable[..., Any], payload: Mapping[str, Any]) -> Flow[Any]:
        message, intent, context = unpacked(payload)
        step = partial(call, message, intent, context)
        return self._recording("action", message, step, intent=intent.name)


def _reading(name: str, seconds: float) -> Pipeline:
    """Return the policy of a step that only reads: two attempts, and none while its target is down."""
    attempts = RetryPolicy(attempts=2, wait_initial=0.2, wait_max=2.0, timeout=seconds, idempotent=True)
    return Pipeline(name, attempts, CircuitBreaker(name=name))


def _acting(idempotent: bool) -> RetryPolicy:
    """Return the policy of a critical action; all of its attempts fit into the lease of its entry."""
    return RetryPolicy(attempts=3, wait_initial=0.5, timeout=15.0, deadline=45.0, idempotent=idempotent)


def _since(started: float) -> float:
    return (clock().monotonic() - started) * 1000
