"""`RedisState`, against a real Redis that is killed and stopped in the middle."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from math import ceil, inf, nan
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.policies.redis_server import OUTAGE, PATIENT, Server, a_key, heard, running, until

from resilient_agents import events
from resilient_agents.policies._agreement import MOST_TARGETS, Memory
from resilient_agents.policies._shared import SharedState, SharedView
from resilient_agents.policies.redis import RedisState
from resilient_agents.testing import FakeClock

SHUT = SharedView(open=False, wait=0.0)
UNKNOWN = SharedView(open=False, wait=0.0, known=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Start a Redis that a test may treat badly."""
    with running(tmp_path) as one:
        yield one


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a Redis for tests that treat it well."""
    with running(tmp_path_factory.mktemp("redis")) as one:
        yield one


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


# Agreement


class ByHand(RedisState):
    """A state that talks to Redis when a test says so."""

    def _follow(self, key: str) -> None:
        self._memory.follow(key)

    def talk(self) -> float | None:
        """Talk to Redis once."""
        return self._exchange()


def nodes_on(server: Server, number: int, **settings: Any) -> list[ByHand]:
    """Return states as *number* processes have them, all of which follow ``"crm"``."""
    settings = {"prefix": a_key(), "timeout": PATIENT, **settings}
    nodes = [ByHand(server.url, **settings) for _ in range(number)]
    for node in nodes:
        assert SHUT == node.state("crm")
        node.talk()
    return nodes


def opinions(nodes: list[ByHand]) -> list[bool]:
    """Return what each node believes of ``"crm"`` once all have talked to Redis."""
    for node in nodes:
        node.talk()
    return [node.state("crm").open for node in nodes]


def leased(nodes: list[ByHand]) -> list[ByHand]:
    """Return the nodes that may make a probe, once all have asked and talked to Redis."""
    holders = [node for node in nodes if node.lease_probe("crm")]
    for node in nodes:
        node.talk()
    return holders + [node for node in nodes if node.lease_probe("crm")]


def open_now(nodes: list[ByHand]) -> None:
    """Let all nodes agree that ``"crm"`` is down, and wait until it is time for a probe."""
    for node in nodes:
        node.vote("crm", 0.01)
        node.talk()
    assert any(opinions(nodes))
    until(lambda: all(opinions(nodes)) and not any(node.state("crm").wait for node in nodes))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    number=st.integers(1, 6),
    voters=st.integers(0, 6),
    quorum=st.floats(0.05, 1),
    minimum=st.integers(1, 3),
)
def test_enough_votes_open_it_for_all(
    steady: Server, number: int, voters: int, quorum: float, minimum: int
) -> None:
    """It is open for all once the quorum of the live nodes says so, and not before."""
    nodes = nodes_on(steady, number, quorum=quorum, minimum_votes=minimum)
    voters = min(voters, number)

    for node in nodes[:voters]:
        node.vote("crm", 60)
        node.vote("crm", 60)  # a node has one vote
        node.talk()

    assert [voters >= max(minimum, ceil(quorum * number))] * number == opinions(nodes)


@pytest.mark.parametrize(("votes", "is_open"), [(1, False), (2, True), (3, True)])
def test_one_of_three_does_not_open_it(steady: Server, votes: int, is_open: bool) -> None:
    """One bad process of three cannot shut out the others; two of them are right."""
    nodes = nodes_on(steady, 3)
    for node in nodes[:votes]:
        node.vote("crm", 60)

    assert [is_open] * 3 == opinions(nodes + nodes)[3:]
    if is_open:
        assert 60 == pytest.approx(nodes[2].state("crm").wait, abs=2)


def test_one_alone_opens_it(steady: Server) -> None:
    """A process alone needs no others, and other targets are not touched."""
    (node,) = nodes_on(steady, 1)
    assert not node.state("llm").open
    node.vote("crm", 60)
    node.talk()

    assert (True, False) == (node.state("crm").open, node.state("llm").open)


def test_votes_expire(steady: Server) -> None:
    """Two processes that had trouble at different times do not agree."""
    one, two = nodes_on(steady, 2, quorum=1.0)
    one.vote("crm", 0.01)
    one.talk()
    until(
        lambda: (
            not steady.client.zcount(f"{{{one.prefix}}}:breaker:crm:votes", "(" + str(now_at(steady)), inf)
        )
    )
    two.vote("crm", 60)

    assert [False, False] == opinions([two, one])


def now_at(server: Server) -> int:
    """Return the time in milliseconds on Redis's clock."""
    seconds, microseconds = server.client.time()
    return int(seconds * 1000 + microseconds // 1000)


def test_who_leaves_is_not_counted(steady: Server) -> None:
    """A process that ends does not keep the others from agreeing."""
    one, two, three, four = nodes_on(steady, 4)
    one.vote("crm", 60)
    for leaver in (three, four):
        assert [False, False] == opinions([one, two])
        leaver.close()
        leaver.talk()

    assert [True, True] == opinions([one, two])
    assert UNKNOWN == three.state("crm")


def test_who_leaves_has_no_vote(steady: Server) -> None:
    """The vote of a process that ended does not count any more."""
    one, two, three = nodes_on(steady, 3, quorum=1.0)
    one.vote("crm", 60)
    one.talk()
    one.close()
    one.talk()
    two.vote("crm", 60)

    assert [False, False] == opinions([two, three])
    three.vote("crm", 60)
    assert [True, True] == opinions([three, two])


def test_leases_are_global(steady: Server) -> None:
    """However many processes want to probe, so many probes as agreed are made at a time."""
    nodes = nodes_on(steady, 10, probes=2)
    open_now(nodes)

    with ThreadPoolExecutor(10) as pool:
        for _ in range(2):
            list(pool.map(ByHand.talk, nodes))
            allowed = list(pool.map(lambda node: node.lease_probe("crm"), nodes))

    assert 2 == sum(allowed)
    assert [] == leased(nodes)


def test_good_probes_close_it(steady: Server) -> None:
    """It is closed for all once all probes were good, and the old votes count no longer."""
    nodes = nodes_on(steady, 3, probes=2)
    open_now(nodes)
    first, second = leased(nodes)

    first.report_probe("crm", ok=True)
    assert [True] * 3 == opinions(nodes)
    assert [] == leased(nodes)  # one was good, one is under way
    for node in nodes:
        node.vote("crm", 60)  # their breakers have not heard yet
        node.talk()
    second.report_probe("crm", ok=True)

    assert [False] * 3 == opinions(nodes + nodes)[3:]
    nodes[0].vote("crm", 60)
    assert [False] * 3 == opinions(nodes + nodes)[3:]


def test_bad_probe_opens_it_again(steady: Server) -> None:
    """It is open again for as long as before; a probe of the opening before has nothing to say any more."""
    nodes = nodes_on(steady, 3, probes=2)
    open_now(nodes)
    first, second = leased(nodes)
    nodes[0].vote("crm", 60)  # its breaker has grown cautious
    nodes[0].talk()

    first.report_probe("crm", ok=False)
    first.talk()
    second.report_probe("crm", ok=True)

    assert [True] * 3 == opinions(nodes + nodes)[3:]
    assert [60] * 3 == pytest.approx([node.state("crm").wait for node in nodes], abs=2)
    assert [] == leased(nodes)


def test_bad_probe_takes_the_leases_back(steady: Server) -> None:
    """A probe that has not ended when another one fails keeps nobody from the next probes."""
    nodes = nodes_on(steady, 4, probes=2)
    open_now(nodes)
    first, second = leased(nodes)
    third, fourth = (node for node in nodes if node not in (first, second))
    first.report_probe("crm", ok=False)
    first.talk()

    until(lambda: not any(node.state("crm").wait for node in nodes if node.talk()))
    assert {third, fourth} == set(leased([third, fourth]))


def test_who_has_not_heard_gets_no_lease(steady: Server) -> None:
    """A wish for a lease that arrives after a bad probe waits for the next time."""
    one, two = nodes_on(steady, 2)
    open_now([one, two])
    assert not two.lease_probe("crm")
    (prober,) = leased([one])
    prober.vote("crm", 60)  # its breaker has grown cautious
    prober.report_probe("crm", ok=False)
    prober.talk()

    two.talk()

    assert 0 == steady.client.zcard(f"{{{one.prefix}}}:breaker:crm:leases")


def test_lease_expires(steady: Server) -> None:
    """A process that dies with a lease, or makes no use of it, holds nobody up for long."""
    nodes = nodes_on(steady, 2, lease=0.02)
    open_now(nodes)
    (dead,) = leased(nodes)
    (heir,) = (node for node in nodes if node is not dead)

    until(lambda: heir.talk() and heir.lease_probe("crm"))
    until(lambda: dead.talk() and dead.lease_probe("crm"))


def test_lost_answer_loses_no_lease(steady: Server) -> None:
    """A lease that Redis gave, and of which the process did not hear, is given to it once more."""
    nodes = nodes_on(steady, 2)
    open_now(nodes)
    node = nodes[0]
    node.lease_probe("crm")
    node._tell(node._memory.messages(0.0), 0.0, alive=9.0)  # the answer is lost

    assert [node] == leased(nodes)


def test_reports_without_a_probe_are_ignored(steady: Server) -> None:
    """Only a probe that was leased has a result, and it has one."""
    nodes = nodes_on(steady, 2)
    nodes[0].report_probe("unknown", ok=True)
    open_now(nodes)
    (prober,) = leased(nodes)
    (other,) = (node for node in nodes if node is not prober)
    other.report_probe("crm", ok=True)
    assert [True, True] == opinions(nodes)

    prober.report_probe("crm", ok=True)
    prober.report_probe("crm", ok=False)

    assert [False, False] == opinions([prober, other])


def test_many_targets(steady: Server) -> None:
    """Targets are told of in groups, and those over the limit are decided by each process itself."""
    (node,) = nodes_on(steady, 1)
    for number in range(MOST_TARGETS + 5):
        node.vote(f"host-{number}", 60)
    node.talk()

    assert MOST_TARGETS - 1 == sum(node.state(f"host-{number}").open for number in range(MOST_TARGETS + 5))


def test_targets_are_forgotten(steady: Server, clock: FakeClock) -> None:
    """A target that nobody asks about any more takes no part and no memory."""
    node = ByHand(steady.url, prefix=a_key(), timeout=PATIENT)
    node.vote("crm", 60)
    node.talk()
    clock.advance(299)
    node.talk()
    assert "crm" in node._memory
    clock.advance(2)
    assert node.refresh == node.talk()

    assert "crm" not in node._memory


def test_stale_agreement_is_none(steady: Server, clock: FakeClock) -> None:
    """What was agreed on holds no longer than a few refreshes."""
    node = ByHand(steady.url, prefix=a_key(), timeout=PATIENT)
    node.vote("crm", 60)
    node.talk()
    assert node.state("crm").open
    clock.advance(3 * node.refresh + 2 * node.timeout + 0.1)

    assert UNKNOWN == node.state("crm")
    assert not node.lease_probe("crm")


# The state without Redis, and its thread


def conform(state: SharedState) -> SharedState:
    """Return *state*; the type checkers see that it is one."""
    return state


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_state_while_redis_is_lost(server: Server, how: str) -> None:
    """No caller asks Redis, one thread does, and what is still true is passed on when it is back."""
    client, attempts = server.counting()
    with closing(RedisState(client, prefix="p", refresh=0.02, timeout=0.05, name="n")) as state:
        shared = conform(state)
        shared.vote("crm", 60)
        until(lambda: shared.state("crm").open)

        with heard(*OUTAGE) as told:
            server.stop_answering(how)
            until(lambda: told)
            before = len(attempts)
            for _ in range(100):
                assert UNKNOWN == shared.state("crm")
                assert not shared.lease_probe("crm")
            shared.vote("llm", 60)
            shared.vote("old", 0.001)
            shared.report_probe("crm", ok=True)
            assert len(attempts) - before <= 4
            server.answer_again(how)
            until(lambda: shared.state("llm").open)

        assert not shared.state("old").open
        assert [(events.SharedStateLost, "breaker", "n"), (events.SharedStateRestored, "breaker", "n")] == [
            (type(event), event.policy, event.name) for event in told
        ]


def test_probe_during_an_outage(server: Server) -> None:
    """The end of a probe that was leased before Redis was lost is passed on afterwards."""
    nodes = nodes_on(server, 2, timeout=0.05, refresh=0.001)
    open_now(nodes)
    (prober,) = leased(nodes)
    (other,) = (node for node in nodes if node is not prober)
    server.hang()
    prober.talk()
    prober.report_probe("crm", ok=True)
    server.go_on()

    until(lambda: (prober.talk(), prober._link.up)[1])
    assert [False, False] == opinions([prober, other])


def test_thread_agrees_with_others(steady: Server) -> None:
    """The thread passes on what it is told at once, and probes close the state for all."""
    prefix = a_key()
    settings: dict[str, Any] = {"prefix": prefix, "refresh": 0.02, "timeout": PATIENT}
    with (
        closing(RedisState(steady.url, **settings)) as one,
        closing(RedisState(steady.url, **settings)) as two,
    ):
        one.vote("crm", 0.03)
        two.vote("crm", 0.03)
        until(lambda: one.state("crm").open and two.state("crm").open)
        until(lambda: one.lease_probe("crm"))
        one.report_probe("crm", ok=True)
        until(lambda: not one.state("crm").open and not two.state("crm").open)


def test_close(steady: Server) -> None:
    """A state that is closed has no thread, agrees on nothing and takes nothing."""
    state = RedisState(steady.url, prefix=a_key(), refresh=0.02, timeout=PATIENT)
    state.vote("crm", 60)
    until(lambda: state.state("crm").open)
    thread = state._thread
    assert thread is not None

    state.close()
    state.close()
    state.vote("crm", 60)
    state.vote("llm", 60)

    assert not thread.is_alive()
    assert [UNKNOWN, UNKNOWN, SHUT] == [state.state(key) for key in ("crm", "llm", "new")]
    assert not state.lease_probe("crm")
    assert 0 == steady.client.zcard(f"{{{state.prefix}}}:breaker:crm:nodes")


def test_close_without_redis(tmp_path: Path) -> None:
    """A state is closed as well when Redis is not there, and one that was never used."""
    state = ByHand(f"unix://{tmp_path}/nobody.sock")
    state.vote("crm", 60)
    state.close()
    with heard(*OUTAGE) as told:
        assert state.talk() is None

    assert [events.SharedStateLost] == list(map(type, told))


def test_state_that_nobody_holds(steady: Server) -> None:
    """The thread of a state ends when nobody has the state any more."""

    def use_one() -> Thread | None:
        state = RedisState(steady.url, prefix=a_key(), refresh=0.01, timeout=PATIENT)
        state.vote("crm", 60)
        until(lambda: state.state("crm").open)
        return state._thread

    thread = use_one()

    assert thread is not None
    until(lambda: not thread.is_alive())


def test_votes_of_no_length_are_ignored(steady: Server) -> None:
    """A vote for no time, or for no number, is none."""
    node = ByHand(steady.url, prefix=a_key(), timeout=PATIENT)
    for seconds in (0.0, -1.0, nan):
        node.vote("crm", seconds)

    assert "crm" not in node._memory


def test_lease_is_not_given_twice() -> None:
    """An answer that was written while a probe ended does not give its lease once more."""
    memory = Memory()
    memory.follow("crm")
    memory.good_until = 1.0
    memory.learn(memory.messages(0.0), [(7, 0, 0)], 0.0)
    assert (False, True) == memory.take_lease("crm", 0.0)
    memory.learn(memory.messages(0.0), [(7, 0, 5000)], 0.0)
    assert (True, False) == memory.take_lease("crm", 0.0)
    assert (False, True) == memory.take_lease("crm", 0.0)

    messages = memory.messages(0.0)
    assert memory.end_probe("crm", ok=True)
    memory.learn(messages, [(7, 0, 4000)], 0.0)

    assert (False, False) == memory.take_lease("crm", 0.0)
    assert [(7, True)] == [message.result for message in memory.messages(0.0)]


def test_threads_take_a_lease_once() -> None:
    """However the threads are switched, a lease is good for one probe."""

    def taken(memory: Memory) -> bool:
        return memory.take_lease("crm", 0.0)[0]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as pool:
            for _ in range(20):
                memory = Memory()
                memory.follow("crm")
                memory.good_until = 1.0
                memory.learn(memory.messages(0.0), [(7, 0, 5000)], 0.0)
                assert 1 == sum(pool.map(taken, [memory] * 32))
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("settings_", "error", "message"),
    [
        ({"quorum": 0.0}, ValueError, "quorum must be more than 0 and at most 1"),
        ({"quorum": nan}, ValueError, "quorum must be more than 0 and at most 1"),
        ({"minimum_votes": 0}, ValueError, "minimum_votes must be 1 or more votes"),
        ({"probes": 1.5}, TypeError, "probes must be a whole number"),
        ({"lease": 0.0}, ValueError, "lease must be a time"),
        ({"refresh": -1.0}, ValueError, "refresh must be a time"),
        ({"timeout": nan}, ValueError, "timeout must be a time"),
        ({"prefix": "{a}"}, ValueError, "prefix must be a text without braces"),
        ({"url_or_client": redis.asyncio.Redis()}, TypeError, "not redis.asyncio.client.Redis"),
    ],
)
def test_wrong_arguments_of_a_state(settings_: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong argument is refused, and the message says what is right."""
    arguments = {"url_or_client": "redis://localhost", **settings_}
    with pytest.raises(error, match=message):
        RedisState(**arguments)
