"""Events reach their subscribers, once each, and a broken subscriber harms nobody."""

import logging
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from resilient_agents import events
from resilient_agents.events import Event, LeaseLost, TopicResumed, emit, subscribe, unsubscribe


def heard(*kinds: type[Event]) -> list[Event]:
    """Return a list that fills with the events of *kinds*."""
    log: list[Event] = []
    subscribe(*kinds)(log.append)
    return log


def test_a_subscriber_hears_its_kind_only() -> None:
    """An event of another kind is not delivered."""
    log = heard(TopicResumed)
    emit(TopicResumed, topic="kommo.lead")
    emit(LeaseLost, topic="kommo.lead", entry_id=1, key="k")
    assert [TopicResumed(topic="kommo.lead")] == log


def test_a_base_class_brings_its_subclasses() -> None:
    """Subscribing to the base of all events means hearing everything."""
    log = heard(Event)
    emit(TopicResumed, topic="a")
    emit(LeaseLost, topic="b", entry_id=1, key="k")
    assert [TopicResumed, LeaseLost] == [type(event) for event in log]


def test_overlapping_kinds_deliver_an_event_once() -> None:
    """A subscriber to a class and to its base is called once per event."""
    log = heard(Event, TopicResumed)
    emit(TopicResumed, topic="a")
    assert 1 == len(log)


def test_a_late_subscriber_hears_what_follows() -> None:
    """What was remembered about a kind does not outlive a new subscription."""
    first = heard(TopicResumed)
    emit(TopicResumed, topic="a")
    second = heard(TopicResumed)
    emit(TopicResumed, topic="b")
    assert ["a", "b"] == [event.topic for event in first if isinstance(event, TopicResumed)]
    assert [TopicResumed(topic="b")] == second


def test_the_decorator_hands_the_function_back() -> None:
    """A subscribed function remains an ordinary function."""

    def note(event: Event) -> None:
        """Do nothing."""

    assert note is subscribe(Event)(note)


def test_unsubscribed_functions_hear_nothing() -> None:
    """After unsubscribing no event arrives; strangers are ignored."""
    log: list[Event] = []
    note = subscribe(TopicResumed)(log.append)
    unsubscribe(note)
    unsubscribe(print)
    emit(TopicResumed, topic="a")
    assert [] == log


def test_a_bound_method_can_be_unsubscribed() -> None:
    """Each look at a bound method makes a new object; it is the same subscriber all the same."""

    class Sink:
        def __init__(self) -> None:
            self.log: list[Event] = []

        def note(self, event: Event) -> None:
            self.log.append(event)

    sink = Sink()
    subscribe(TopicResumed)(sink.note)
    emit(TopicResumed, topic="a")
    unsubscribe(sink.note)
    emit(TopicResumed, topic="b")
    assert [TopicResumed(topic="a")] == sink.log


def test_without_a_subscriber_an_event_is_not_even_built() -> None:
    """Attributes that do not fit go unnoticed while nobody listens, and are an error when somebody does."""
    emit(TopicResumed, nonsense=1)
    heard(LeaseLost)
    emit(TopicResumed, nonsense=1)
    heard(TopicResumed)
    with pytest.raises(TypeError):
        emit(TopicResumed, nonsense=1)


def test_a_broken_subscriber_is_logged_once_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """What a subscriber raises reaches neither the emitter nor the other subscribers."""

    def broken(event: Event) -> None:
        raise KeyError("mine")

    subscribe(TopicResumed)(broken)
    log = heard(TopicResumed)
    with caplog.at_level(logging.ERROR, "resilient_agents.events"):
        emit(TopicResumed, topic="a")
        emit(TopicResumed, topic="b")
    assert 2 == len(log)
    assert 1 == len(caplog.records)
    assert "broken" in caplog.text


def test_a_broken_subscriber_that_comes_back_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    """Unsubscribing forgets that a subscriber was broken."""

    def broken(event: Event) -> None:
        raise KeyError("mine")

    for _ in range(2):
        subscribe(TopicResumed)(broken)
        emit(TopicResumed, topic="a")
        unsubscribe(broken)
    assert 2 == len(caplog.records)


@pytest.mark.parametrize("kinds", [(), (int,), ("RetryScheduled",), (Event, int)])
def test_only_event_classes_can_be_subscribed_to(kinds: tuple[Any, ...]) -> None:
    """A wrong kind is refused where it is written, not when an event is lost."""
    with pytest.raises(TypeError, match="takes event classes"):
        subscribe(*kinds)


def test_events_cannot_be_changed() -> None:
    """One subscriber cannot alter what the next one hears."""
    event: Any = TopicResumed(topic="a")
    with pytest.raises((FrozenInstanceError, TypeError)):
        event.topic = "b"


def test_every_event_is_documented_and_takes_keywords_only() -> None:
    """Each event class explains itself and cannot be built by position."""
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    assert len(kinds) > 8
    for kind in kinds:
        assert kind.__doc__
        build: Callable[..., Event] = kind
        with pytest.raises(TypeError):
            build("by position")
