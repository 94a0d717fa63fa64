"""Handing work in: durable, once for each key, in order where asked."""

import asyncio
import sqlite3
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest

from resilient_agents import DeadLetterQueue, Delivered, Queued, Replayer, events
from resilient_agents._flow import run
from resilient_agents.deadletter import Limits, State
from resilient_agents.deadletter.entry import Receipt
from resilient_agents.errors import (
    ConfigurationError,
    Conflict,
    NotFound,
    Origin,
    PayloadTooLarge,
    RateLimited,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.testing import FakeClock


def hand_in(queue: DeadLetterQueue, payload: dict[str, Any], **options: Any) -> Receipt[Any]:
    """Hand work in for topic ``t`` and try it at once."""
    return run(queue.hand_in(queue.blocking, "t", payload, **{"key": None, **options}))


def reject(_: object) -> None:
    """Refuse as a target does that will never take this."""
    raise ValidationFailed(origin=Origin.DEPENDENCY)


def test_enqueue(queue: DeadLetterQueue, clock: FakeClock, heard: list[events.Event]) -> None:
    """Work that was handed in is there, and said so."""
    entry = queue.enqueue("t", {"n": 1}, key="k", ordering_key="o", delay=5)

    assert queue.get("t", "k") == entry
    assert ("t", "k", "o", {"n": 1}, State.PENDING) == (
        entry.topic,
        entry.key,
        entry.ordering_key,
        entry.payload,
        entry.state,
    )
    assert (clock.time(), clock.time(), clock.time() + 5) == (entry.created, entry.updated, entry.due)
    assert [events.EntryAccepted(topic="t", entry_id=entry.id, key="k")] == heard


def test_enqueue_is_durable_when_it_returns(url: str) -> None:
    """Another connection sees the work, though the queue is neither closed nor asked to flush."""
    with DeadLetterQueue(url) as queue:
        queue.enqueue("t", {"n": 1}, key="k")
        other = sqlite3.connect(url.removeprefix("sqlite:///"))
        rows = other.execute("SELECT key, payload FROM entries").fetchall()
        other.close()

    assert [("k", b'{"n":1}')] == rows


def test_survives_reopening(url: str) -> None:
    """Work outlives the object that took it."""
    with DeadLetterQueue(url) as first:
        accepted = first.enqueue("t", {"n": 1}, key="k")
    with DeadLetterQueue(url) as second:
        found = second.get("t", "k")

    assert accepted == found


def test_same_key_same_payload(queue: DeadLetterQueue, heard: list[events.Event]) -> None:
    """A second call with the same work finds the first entry and accepts nothing."""
    first = queue.enqueue("t", {"a": 1, "b": 2}, key="k")
    second = queue.enqueue("t", {"b": 2, "a": 1}, key="k", delay=99)

    assert first == second
    assert 1 == len(heard)
    assert [first] == queue.entries()


def test_same_key_other_payload(queue: DeadLetterQueue) -> None:
    """Other work under a known key is refused; the message shows neither."""
    queue.enqueue("t", {"n": "secret-1"}, key="secret-key")

    with pytest.raises(Conflict, match=r"another payload .* \(topic t\): use a new key") as caught:
        queue.enqueue("t", {"n": "secret-2"}, key="secret-key")
    assert "secret" not in str(caught.value)


def test_same_key_other_topic(queue: DeadLetterQueue) -> None:
    """A key is one topic's own."""
    assert queue.enqueue("t", {}, key="k").id != queue.enqueue("u", {}, key="k").id


def test_key_after_delivery(queue: DeadLetterQueue, clock: FakeClock) -> None:
    """Delivered work is still known, with the target's reference, and is not done again."""
    calls: list[Any] = []

    @queue.handler("t")
    def work(payload: dict[str, int]) -> int:
        calls.append(payload)
        return 4711

    accepted = queue.enqueue("t", {"n": 1}, key="k", ordering_key="o")
    Replayer(queue).run_once()
    clock.advance(3600)

    again = queue.enqueue("t", {"n": 1}, key="k")

    assert (accepted.id, State.DELIVERED, "4711", "o") == (
        again.id,
        again.state,
        again.reference,
        again.ordering_key,
    )
    assert ({}, accepted.created, 1) == (again.payload, again.created, again.attempts)
    assert 0 == Replayer(queue).run_once().handled
    assert [{"n": 1}] == calls
    with pytest.raises(Conflict):
        queue.enqueue("t", {"n": 2}, key="k")


def test_random_key(queue: DeadLetterQueue) -> None:
    """Without a key, equal work is different work."""
    first, second = queue.enqueue("t", {}), queue.enqueue("t", {})

    assert first.id != second.id
    assert uuid.UUID(first.key) != uuid.UUID(second.key)


async def test_aenqueue(queue: DeadLetterQueue) -> None:
    """The awaiting twin stores the same."""
    first = await queue.aenqueue("t", {"n": 1}, key="k", ordering_key="o", delay=5)

    assert queue.enqueue("t", {"n": 1}, key="k") == first
    with pytest.raises(Conflict):
        await queue.aenqueue("t", {"n": 2}, key="k")


async def test_cancelled_aenqueue_leaves_the_queue_working(queue: DeadLetterQueue) -> None:
    """A caller who goes away harms nobody else, and his key is whole or absent."""
    gone = asyncio.create_task(queue.aenqueue("t", {"n": 1}, key="gone"))
    await asyncio.sleep(0)
    gone.cancel()
    stayed = await queue.aenqueue("t", {"n": 2}, key="stayed")

    assert gone.cancelled()
    assert queue.get("t", "stayed") == stayed
    assert {"n": 1} == (await queue.aenqueue("t", {"n": 1}, key="gone")).payload


def test_delay(queue: DeadLetterQueue, clock: FakeClock) -> None:
    """Delayed work is left alone until it is due."""
    taken: list[Any] = []
    queue.handler("t")(taken.append)
    queue.enqueue("t", {"n": 1}, delay=60)
    replayer = Replayer(queue)

    clock.advance(59)
    assert 0 == replayer.run_once().handled
    clock.advance(1)
    assert 1 == replayer.run_once().delivered
    assert [{"n": 1}] == taken


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf")])
def test_bad_delay(queue: DeadLetterQueue, delay: float) -> None:
    """A delay that is no wait is refused."""
    with pytest.raises(ValidationFailed, match="delay must be a number of seconds, 0 or more"):
        queue.enqueue("t", {}, delay=delay)


def test_payload_limit(url: str) -> None:
    """A payload at the limit is taken, and one byte more is not."""
    with DeadLetterQueue(url, payload_limit=100) as queue:
        queue.enqueue("t", {"v": "x" * 92}, key="fits")
        with pytest.raises(PayloadTooLarge):
            queue.enqueue("t", {"v": "x" * 93}, key="does not")

        assert ["fits"] == [entry.key for entry in queue.entries()]


class TestOrder:
    """Entries with one ordering key go one at a time, in the order in which they were accepted."""

    def test_order_of_acceptance(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """A later entry waits for an earlier one, even if that one is due much later."""
        taken: list[Any] = []
        queue.handler("t")(lambda payload: taken.append(payload["n"]))
        queue.enqueue("t", {"n": 1}, ordering_key="o", delay=60)
        queue.enqueue("t", {"n": 2}, ordering_key="o")
        queue.enqueue("t", {"n": 3}, ordering_key="o")
        queue.enqueue("t", {"n": 4}, ordering_key="other")
        queue.enqueue("t", {"n": 5})
        replayer = Replayer(queue)

        replayer.run_once()
        assert [4, 5] == taken
        clock.advance(60)
        replayer.run_once()
        assert [4, 5, 1, 2, 3] == taken

    def test_never_two_at_once(self, queue: DeadLetterQueue) -> None:
        """While one is in work, no other worker gets the next of its order."""
        concurrent: list[int] = []

        @queue.handler("t")
        def work(_: object) -> None:
            if not concurrent:
                concurrent.append(Replayer(queue).run_once().handled)

        queue.enqueue("t", {"n": 1}, ordering_key="o")
        queue.enqueue("t", {"n": 2}, ordering_key="o")

        assert 2 == Replayer(queue).run_once().delivered
        assert [0] == concurrent

    def test_parked_does_not_block(self, queue: DeadLetterQueue) -> None:
        """A person may take days, and the rest of the order goes on."""
        queue.handler("t")(lambda payload: reject(payload) if payload["n"] == 1 else None)
        queue.enqueue("t", {"n": 1}, ordering_key="o")
        queue.enqueue("t", {"n": 2}, ordering_key="o")

        done = Replayer(queue).run_once()

        assert (1, 1) == (done.parked, done.delivered)

    def test_redriven_waits_for_the_one_in_work(self, queue: DeadLetterQueue) -> None:
        """A parked entry that comes back does not run beside a later one of its order."""
        taken: list[int] = []

        @queue.handler("t")
        def work(payload: dict[str, int]) -> None:
            if payload["n"] == 1 and not taken:
                reject(payload)
            if payload["n"] == 2:
                queue.redrive(parked.id)
                assert 0 == Replayer(queue).run_once().handled
            taken.append(payload["n"])

        parked = queue.enqueue("t", {"n": 1}, ordering_key="o")
        queue.enqueue("t", {"n": 2}, ordering_key="o")
        queue.enqueue("t", {"n": 3}, ordering_key="o")

        assert 3 == Replayer(queue).run_once().delivered
        assert [2, 1, 3] == taken

    def test_at_once_does_not_overtake(self, queue: DeadLetterQueue) -> None:
        """Work tried at once still queues behind earlier work of its order."""
        taken: list[int] = []
        queue.handler("t")(lambda payload: taken.append(payload["n"]))
        queue.enqueue("t", {"n": 1}, ordering_key="o")

        receipt = hand_in(queue, {"n": 2}, ordering_key="o")

        assert isinstance(receipt, Queued)
        assert State.PENDING is receipt.state
        assert [] == taken
        assert isinstance(hand_in(queue, {"n": 3}, ordering_key="other"), Delivered)


class TestHandIn:
    """Storing first, then trying at once."""

    def test_delivered(self, queue: DeadLetterQueue) -> None:
        """Work that arrives at once is in the ledger when the caller gets his receipt."""
        queue.handler("t")(lambda payload: f"ref-{payload['n']}")

        receipt = hand_in(queue, {"n": 1}, key="k")

        assert Delivered(entry_id=receipt.entry_id, reference="ref-1", value="ref-1") == receipt
        assert Delivered(entry_id=receipt.entry_id, reference="ref-1") == hand_in(queue, {"n": 1}, key="k")
        assert [] == queue.entries()

    def test_stored_before_the_call(self, queue: DeadLetterQueue, url: str) -> None:
        """When the target is called, the work is on disk already and nobody else may take it."""
        seen: list[tuple[str, str]] = []

        @queue.handler("t")
        def work(_: object) -> None:
            other = sqlite3.connect(url.removeprefix("sqlite:///"))
            seen.extend(other.execute("SELECT key, state FROM entries").fetchall())
            other.close()
            assert 0 == Replayer(queue).run_once().handled

        hand_in(queue, {}, key="k")

        assert [("k", "leased")] == seen

    def test_later(self, queue: DeadLetterQueue) -> None:
        """Asked not to try at once, it only stores, and wakes who listens."""
        woken: list[int] = []
        queue.handler("t")(lambda _: None)
        forget = queue.listen(lambda: woken.append(1))

        receipt = hand_in(queue, {}, at_once=False)

        assert State.PENDING is getattr(receipt, "state", None)
        assert [1] == woken
        forget()
        hand_in(queue, {}, at_once=False)
        assert [1] == woken

    def test_no_call_to_a_dead_target(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """While a target is paused nobody calls it; afterwards one caller tries, and all go on."""
        down, calls = True, []

        @queue.handler("t", idempotent=True)
        def work(_: object) -> None:
            calls.append(1)
            if down:
                raise Unreachable

        receipts = [hand_in(queue, {"n": n}) for n in range(5)]
        assert 3 == len(calls)
        assert [State.SCHEDULED] * 3 + [State.PENDING] * 2 == [it.state for it in receipts]  # type: ignore[union-attr]

        down = False
        clock.advance(queue.pauses.wait("t") + 0.001)
        assert isinstance(hand_in(queue, {}), Delivered)
        assert isinstance(hand_in(queue, {}), Delivered)

    def test_at_once_for_longer_than_the_target_may_take(
        self, queue: DeadLetterQueue, clock: FakeClock
    ) -> None:
        """The caller's lease ends no sooner than the queue's own."""
        leases: list[float | None] = []
        queue.handler("t")(lambda _: leases.extend(entry.lease_until for entry in queue.entries()))

        hand_in(queue, {})

        assert [clock.time() + queue.lease] == leases


class TestLooking:
    """What is where: `get`, `entries`, `stats`."""

    def test_get_unknown(self, queue: DeadLetterQueue) -> None:
        """An unknown key is no error, and an impossible one is."""
        assert queue.get("t", "k") is None
        with pytest.raises(ValidationFailed, match="key must be"):
            queue.get("t", "\ud800")

    def test_paging(self, queue: DeadLetterQueue) -> None:
        """Pages follow each other by id, and cover everything once."""
        ids = [queue.enqueue("t" if n % 2 else "u", {"n": n}).id for n in range(10)]
        pages: list[list[int]] = [[]]
        while page := queue.entries(after=max(pages[-1], default=0), limit=4):
            pages.append([entry.id for entry in page])

        assert [ids[:4], ids[4:8], ids[8:]] == pages[1:]
        assert ids[1::2] == [entry.id for entry in queue.entries(topic="t")]

    def test_states(self, queue: DeadLetterQueue) -> None:
        """Only the states asked for are listed."""
        queue.handler("bad")(reject)
        parked, pending = queue.enqueue("bad", {}), queue.enqueue("t", {})
        Replayer(queue).run_once()

        assert [parked.id] == [entry.id for entry in queue.entries(states=[State.PARKED])]
        assert [pending.id] == [entry.id for entry in queue.entries(states=[State.PENDING])]
        assert [] == queue.entries(states=[])

    def test_stats(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """Each state is counted, and the oldest is the oldest that still waits."""
        assert queue.stats().oldest is None
        assert dict.fromkeys(State, 0) == queue.stats().states
        queue.handler("bad")(reject)
        queue.handler("good")(lambda _: None)
        for topic in ("bad", "good", "t", "t"):
            queue.enqueue(topic, {})
            clock.advance(1)
        start = clock.time() - 4
        Replayer(queue).run_once()

        stats = queue.stats()

        assert (1, 1, 2) == (
            stats.states[State.PARKED],
            stats.states[State.DELIVERED],
            stats.states[State.PENDING],
        )
        assert (2, start + 2) == (stats.waiting, stats.oldest)


class TestRedrive:
    """A person gives a parked entry a fresh start."""

    def test_fresh_start(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """Errors are forgotten, attempts are remembered, and it is due now."""
        queue.handler("t")(reject)
        parked = queue.enqueue("t", {})
        Replayer(queue).run_once()
        clock.advance(100)

        entry = queue.redrive(parked.id)

        assert (State.SCHEDULED, clock.time(), 0, 1) == (
            entry.state,
            entry.due,
            entry.errors,
            entry.attempts,
        )
        assert 1 == Replayer(queue).run_once().parked

    def test_what_waits_too_long(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """An entry whose target asked for weeks of patience need not wait for them."""

        def wait_for_weeks(_: object) -> None:
            raise RateLimited(retry_after=3_600_000)

        queue.handler("t")(wait_for_weeks)
        entry = queue.enqueue("t", {})
        Replayer(queue).run_once()
        waiting = queue.entries()[0]
        assert (State.SCHEDULED, True) == (waiting.state, waiting.due > clock.time() + 3_000_000)

        assert (State.SCHEDULED, clock.time()) == (
            queue.redrive(entry.id).state,
            queue.entries()[0].due,
        )

    def test_what_cannot_be_redriven(self, queue: DeadLetterQueue) -> None:
        """What a worker is at cannot be redriven, and what is gone cannot either."""
        entry = queue.enqueue("t", {})
        refused: list[Conflict] = []

        @queue.handler("t")
        def work(_: object) -> None:
            with pytest.raises(Conflict, match=f"entry {entry.id} is leased") as raised:
                queue.redrive(entry.id)
            refused.append(raised.value)

        Replayer(queue).run_once()

        assert 1 == len(refused)
        with pytest.raises(NotFound, match="there is no entry 99 waiting"):
            queue.redrive(99)

    def test_wakes_the_workers(self, queue: DeadLetterQueue) -> None:
        """A redriven entry does not wait for the next look at the file."""
        queue.handler("t")(reject)
        parked = queue.enqueue("t", {})
        Replayer(queue).run_once()
        woken: list[int] = []
        queue.listen(lambda: woken.append(1))

        queue.redrive(parked.id)

        assert [1] == woken

    @pytest.mark.parametrize(("resend", "calls", "left"), [(False, 1, 1), (True, 2, 0)])
    def test_in_doubt_and_nobody_can_look(
        self, queue: DeadLetterQueue, resend: bool, calls: int, left: int
    ) -> None:
        """What may have been done is done again only when a person says that it was not."""
        made: list[int] = []

        @queue.handler("t")
        def work(_: object) -> None:
            made.append(1)
            if len(made) == 1:
                raise TimeoutError

        entry = queue.enqueue("t", {})
        Replayer(queue).run_once()
        queue.redrive(entry.id, resend=resend)
        Replayer(queue).run_once()

        assert calls == len(made)
        assert left == len(queue.entries(states=[State.PARKED]))


def test_forget(queue: DeadLetterQueue, clock: FakeClock) -> None:
    """Old lines of the ledger go, newer ones stay, and a forgotten key is new again."""
    queue.handler("t")(lambda _: None)
    for key in ("old", "new"):
        queue.enqueue("t", {}, key=key)
        Replayer(queue).run_once()
        clock.advance(10)

    assert 1 == queue.forget(confirmed_before=clock.time() - 15)
    assert queue.get("t", "old") is None
    assert queue.get("t", "new") is not None
    assert State.PENDING is queue.enqueue("t", {"other": 1}, key="old").state


class TestSetUp:
    """What makes no sense is said at once."""

    @pytest.mark.parametrize(
        "url",
        ["", "leads.db", "sqlite://", "sqlite:///", "sqlite://leads.db", "sqlite:///:memory:", "redis:///x"],
    )
    def test_bad_url(self, url: str) -> None:
        """A URL that names no file is refused, with an example of one that does."""
        with pytest.raises(ConfigurationError, match=r"write sqlite:///leads\.db"):
            DeadLetterQueue(url)

    @pytest.mark.parametrize("option", [{"lease": 0}, {"payload_limit": -1}, {"patience": float("nan")}])
    def test_bad_number(self, url: str, option: dict[str, Any]) -> None:
        """A number that makes no sense is refused before the file is touched."""
        with pytest.raises(ConfigurationError, match=f"{next(iter(option))} must be more than 0"):
            DeadLetterQueue(url, **option)
        assert not Path(url.removeprefix("sqlite:///")).exists()

    @pytest.mark.parametrize(
        "limit", [{"max_attempts": 0}, {"max_crashes": -1}, {"wait_initial": 0}, {"wait_max": float("inf")}]
    )
    def test_bad_limit(self, limit: dict[str, Any]) -> None:
        """A limit that makes no sense is refused by name."""
        with pytest.raises(ConfigurationError, match=next(iter(limit))):
            Limits(**limit)

    def test_relative_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A path without a leading slash is below the working directory, as it was when opened."""
        monkeypatch.chdir(tmp_path)
        with DeadLetterQueue("sqlite:///leads.db") as queue:
            monkeypatch.chdir("/")
            queue.enqueue("t", {})
        assert (tmp_path / "leads.db").exists()

    def test_private_files(self, queue: DeadLetterQueue, tmp_path: Path) -> None:
        """Everything that is created is for its owner only."""
        queue.enqueue("t", {})

        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert {"queue.db", "queue.db-lock", "queue.db-shm", "queue.db-wal"} == modes.keys()
        assert {0o600} == set(modes.values())

    def test_durability_settings(self, queue: DeadLetterQueue, url: str) -> None:
        """Commits are synced in full, into a write-ahead log."""
        synchronous = queue.blocking(lambda it: it.execute("PRAGMA synchronous").fetchone()[0])
        other = sqlite3.connect(url.removeprefix("sqlite:///"))
        mode = other.execute("PRAGMA journal_mode").fetchone()[0]
        other.close()

        assert (2, "wal") == (synchronous, mode)

    def test_limits(self, url: str) -> None:
        """The queue's patience is the one it was given."""
        limits = Limits(max_attempts=3)
        with DeadLetterQueue(url, limits=limits) as queue:
            assert limits is queue.limits

    def test_one_handler_a_topic(self, queue: DeadLetterQueue) -> None:
        """A second handler would steal the first one's work, so it is refused."""
        queue.handler("t")(lambda _: None)

        with pytest.raises(ConfigurationError, match="topic 't' has a handler already"):
            queue.handler("t")(lambda _: None)

    def test_handler_is_left_as_it_is(self, queue: DeadLetterQueue) -> None:
        """A handler can still be called directly."""

        def work(payload: dict[str, int]) -> int:
            return payload["n"]

        assert queue.handler("t")(work) is work

    def test_topic_is_checked(self, queue: DeadLetterQueue) -> None:
        """A handler cannot be registered for a topic that no work can have."""
        with pytest.raises(ValidationFailed, match="topic must be"):
            queue.handler("")(lambda _: None)

    def test_closed_queue_opens_again(self, queue: DeadLetterQueue) -> None:
        """Closing releases the file; the next call takes it up again."""
        queue.enqueue("t", {}, key="before")
        queue.close()
        queue.close()
        queue.enqueue("t", {}, key="after")

        assert ["before", "after"] == [entry.key for entry in queue.entries()]
