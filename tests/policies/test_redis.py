"""`RedisRateLimiter` and `RedisState`, against a real Redis that is killed and stopped in the middle."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import ceil, inf, nan
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.policies.redis_server import OUTAGE, PATIENT, Server, a_key, heard, running, until

from resilient_agents import deadline, events
from resilient_agents._flow import run
from resilient_agents.errors import DeadlineExceeded, LimitReached, QuotaExhausted, RateLimited
from resilient_agents.policies._redis import LONGEST_PAUSE, Link
from resilient_agents.policies._redis_window import SharedWindow, Turn
from resilient_agents.policies._shared import SharedView
from resilient_agents.policies._waiting import BLOCKING
from resilient_agents.policies._waits import report
from resilient_agents.policies._window import Window
from resilient_agents.policies.redis import RedisRateLimiter, RedisState
from resilient_agents.testing import FakeClock

A_MICROSECOND = 1e-6
A_ROUNDING_ERROR = 1e-5
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


def limiter_on(redis: object, limit: int = 1, **settings: Any) -> RedisRateLimiter:
    """Return a limiter of a key of its own that is patient with a slow machine."""
    settings = {"key": a_key(), "timeout": PATIENT, **settings}
    return RedisRateLimiter(limit, redis=redis, **settings)


def window_on(server: Server, limit: int, per: float, key: str) -> SharedWindow:
    """Return a window, without the waiting."""
    return SharedWindow(
        limit, per, key=key, redis=server.url, timeout=PATIENT, local_limit=limit, name="window"
    )


def asked(window: SharedWindow, within: float = inf, before: Turn | None = None) -> Turn:
    """Return what Redis decides."""
    turn = window.ask(within, before)
    assert turn is not None
    return turn


# The window


@given(
    limit=st.integers(1, 5),
    per=st.floats(0.1, 10),
    gaps=st.lists(st.floats(0, 5) | st.just(0.0), max_size=40),
    parks=st.dictionaries(st.integers(0, 39), st.floats(0, 20), max_size=2),
    withins=st.lists(st.floats(0, 5) | st.just(inf), min_size=40, max_size=40),
)
def test_no_local_window_holds_more_than_the_limit(
    limit: int, per: float, gaps: list[float], parks: dict[int, float], withins: list[float]
) -> None:
    """Each start is as early as the window and the park allow; what is too far off is not booked."""
    window, starts, now, parked_until = Window(limit, per), list[float](), 0.0, 0.0
    for number, gap in enumerate(gaps):
        now += gap
        if number in parks:
            longer = now + parks[number] > window.parked_until
            assert longer == window.park(now + parks[number])
            parked_until = max(parked_until, now + parks[number])
        wait = window.book(now, withins[number])
        earliest = max(now, parked_until, starts[-limit] + per if len(starts) >= limit else 0.0)
        assert earliest - now == pytest.approx(wait, abs=A_ROUNDING_ERROR)
        if wait <= withins[number]:
            starts.append(now + wait)

    assert all(b - a > per - A_ROUNDING_ERROR for a, b in zip(starts, starts[limit:], strict=False))


@given(starts=st.lists(st.floats(0, 10), min_size=1, max_size=9))
def test_starts_that_others_allowed_are_counted(starts: list[float]) -> None:
    """A start that Redis allowed is in the local window too, in whatever order one hears of them."""
    window = Window(len(starts), 100.0)
    for start in starts:
        window.note(start)

    assert 90 <= window.book(10.0, inf) <= 100


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    limit=st.integers(1, 5),
    per=st.floats(0.01, 10),
    callers=st.lists(st.integers(0, 2), min_size=1, max_size=25),
    parks=st.dictionaries(st.integers(0, 24), st.floats(0, 20), max_size=2),
)
def test_no_shared_window_holds_more_than_the_limit(
    steady: Server, limit: int, per: float, callers: list[int], parks: dict[int, float]
) -> None:
    """Whoever asks, each start is as early as the window of all allows, to the microsecond."""
    key, starts, parked_until = a_key(), list[float](), 0.0
    windows = [window_on(steady, limit, per, key) for _ in range(3)]
    window_length = ceil(per * 1e6)
    for number, caller in enumerate(callers):
        if number in parks:
            windows[caller]._local.park(windows[caller]._untold_park()[0] + parks[number])
        turn = asked(windows[caller])
        asked_at = turn.start - round(turn.wait * 1e6)
        earliest = float(asked_at)
        if len(starts) >= limit:
            earliest = max(earliest, starts[-limit] + window_length)
        if turn.parked:
            assert turn.start >= earliest
            parked_until = turn.start
        else:
            assert max(earliest, parked_until) == turn.start
        starts.append(turn.start)

    assert all(b - a >= window_length for a, b in zip(starts, starts[limit:], strict=False))


CHILD = """
import sys
from threading import Thread
import redis
from resilient_agents._flow import run
from resilient_agents.policies._waiting import BLOCKING
from resilient_agents.policies.redis import RedisRateLimiter

limiter = RedisRateLimiter(20, per=0.25, key="processes", redis=sys.argv[1], timeout=2.0)
client = redis.Redis.from_url(sys.argv[1])
lines = []

def work():
    for _ in range(10):
        booked = run(limiter.enter(BLOCKING))
        seconds, microseconds = client.time()
        lines.append(f"{booked:.6f} {seconds}.{microseconds:06}")

threads = [Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(*lines, sep="\\n")
"""


def test_processes_share_the_window(server: Server) -> None:
    """Two processes of four threads each never start more than the limit in any window, by Redis's clock."""
    command = [sys.executable, "-c", CHILD, server.url]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [line.split() for child in children for line in child.communicate(timeout=30)[0].splitlines()]

    booked = sorted(float(start) for start, _ in lines)
    assert 80 == len(booked)
    assert all(b - a >= 0.25 - A_MICROSECOND for a, b in zip(booked, booked[20:], strict=False))
    assert all(float(began) >= float(start) - 0.002 for start, began in lines)


def test_threads_and_clients_share_the_window(steady: Server) -> None:
    """However the threads of several clients are switched, no start is given twice."""
    key, interval = a_key(), sys.getswitchinterval()
    windows = [window_on(steady, 10, 100.0, key) for _ in range(4)]

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as pool:
            starts = sorted(pool.map(lambda place: asked(windows[place % 4]).start, range(200)))
    finally:
        sys.setswitchinterval(interval)

    assert all(b - a >= 100 * 1_000_000 for a, b in zip(starts, starts[10:], strict=False))


def test_keys_expire(steady: Server) -> None:
    """What a limiter stored goes away by itself."""
    window = window_on(steady, 1, 0.05, key := a_key())
    asked(window)
    window._on_errand = True  # the park reaches Redis with the next call
    window.park(0.3)
    asked(window)
    expiries = [steady.client.pttl(name) for name in steady.client.keys(f"*{key}*")]

    assert all(0 < expiry < 2000 for expiry in expiries)
    assert expiries
    until(lambda: not steady.client.keys(f"*{key}*:parked"))


# The limiter as a gate


async def test_waits_for_its_turn(steady: Server, clock: FakeClock) -> None:
    """A call that cannot start at once waits, is told of, and then starts; the threads and tasks alike."""
    limiter = limiter_on(steady.url, per=100.0)

    @limiter
    def fetch(number: int) -> int:
        return number

    @limiter
    async def afetch(number: int) -> int:
        return number

    with heard(events.CallWaited) as told, report() as noted:
        assert 1 == fetch(1)
        assert 2 == await afetch(2)
        await limiter.aacquire()
        limiter.acquire()

    assert [100, 200, 300] == pytest.approx(clock.sleeps, abs=2)
    assert [("limiter", limiter.key, "rate")] * 3 == [(e.policy, e.name, e.dictated_by) for e in told]
    assert clock.sleeps == [event.seconds for event in told]
    assert [("limiter", "rate")] * 3 == [(wait.policy, wait.dictated_by) for wait in noted.waits]


def test_block(steady: Server, clock: FakeClock) -> None:
    """A ``with`` block is a call."""
    limiter = limiter_on(steady.url, per=100.0)

    for _ in range(2):
        with limiter:
            pass

    assert [100] == pytest.approx(clock.sleeps, abs=2)


def test_try_acquire(steady: Server) -> None:
    """`try_acquire` takes what is free in all processes; a refusal costs nothing."""
    key = a_key()
    here, there = (limiter_on(steady.url, 2, per=100.0, key=key) for _ in range(2))

    assert [True, True, False, False] == [limiter.try_acquire() for limiter in (here, there, here, there)]
    assert 2 == steady.client.llen(f"resilient-agents:limiter:{{{key}}}:starts")


def test_max_wait(steady: Server, clock: FakeClock) -> None:
    """A wait longer than *max_wait* is refused at once; it tells when it may be tried, and books nothing."""
    limiter = limiter_on(steady.url, per=100.0, max_wait=0.0, name="crm")
    limiter.acquire()

    for _ in range(2):
        with (
            heard(events.CallRefused) as told,
            pytest.raises(LimitReached, match="more than the 0 s") as refusal,
        ):
            limiter.acquire()
        assert 100 == pytest.approx(refusal.value.retry_after, abs=2)
        assert [("limiter", "crm", refusal.value.retry_after)] == [(e.policy, e.name, e.wait) for e in told]
    assert [] == clock.sleeps


async def test_deadline(steady: Server, clock: FakeClock) -> None:
    """A start past the deadline is neither waited for nor booked; one within it is."""
    limiter = limiter_on(steady.url, per=100.0)
    limiter.acquire()

    with deadline(50), pytest.raises(DeadlineExceeded, match=r"RedisRateLimiter\(1, per=100.0, .*deadline"):
        await limiter.aacquire()
    with deadline(150):
        await limiter.aacquire()
    with deadline(0), pytest.raises(DeadlineExceeded):
        limiter.acquire()

    assert [100] == pytest.approx(clock.sleeps, abs=2)


async def test_cancelled_while_it_waits(steady: Server) -> None:
    """A cancellation passes, and leaves the start that was booked unused."""
    limiter = limiter_on(steady.url, per=100.0)
    await limiter.aacquire()
    loop, waits = asyncio.get_running_loop(), asyncio.Event()
    events.subscribe(events.CallWaited)(lambda _: loop.call_soon(waits.set))
    task = asyncio.create_task(limiter.aacquire())
    await waits.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert 200 == pytest.approx(asked(limiter._window).wait, abs=2)


# Parks


def test_park_crosses_processes(steady: Server, clock: FakeClock) -> None:
    """What a server told one process holds for all; a shorter time never replaces a longer one."""
    key = a_key()
    here, there = (limiter_on(steady.url, 100, key=key) for _ in range(2))

    with heard(events.CallersParked, events.CallWaited) as told:
        here.park(60)
        here.park(5)
        until(lambda: not there.try_acquire())
        there.park(1)
        there.acquire()

    third = limiter_on(steady.url, 100, key=key)
    third._window._on_errand = True  # its park reaches Redis with its own call
    third.park(5)
    assert 60 == pytest.approx(asked(third._window).wait, abs=2)
    assert [60] == pytest.approx(clock.sleeps, abs=2)
    assert [60] == [event.wait for event in told if type(event) is events.CallersParked]
    assert ["server"] == [event.dictated_by for event in told if type(event) is events.CallWaited]


def test_own_callers_are_parked_at_once(steady: Server, clock: FakeClock) -> None:
    """Who asks before the news has reached Redis brings it along."""
    limiter = limiter_on(steady.url, 100)
    limiter._window._on_errand = True  # nobody else brings it

    limiter.park(60)

    assert 60 == pytest.approx(asked(limiter._window).wait, abs=A_ROUNDING_ERROR)
    assert limiter._window._untold_park()[1] < 0
    assert asked(window_on(steady, 100, 1.0, limiter.key)).parked


def test_parked_while_it_waits(steady: Server, clock: FakeClock) -> None:
    """Who waits already does not start before the server's demand, though another process heard it."""
    key = a_key()
    here, there = (window_on(steady, 1, 10.0, key) for _ in range(2))
    asked(here)
    turn = asked(here)

    there.park(60)
    until(lambda: asked(here, 0.0).wait > 50)
    again = asked(here, inf, turn)

    assert (10, 60) == pytest.approx((turn.wait, again.wait), abs=2)
    assert again.parked
    assert (0, again.start) == (asked(here, inf, again).wait, asked(here, inf, again).start)


@pytest.mark.parametrize("awaiting", [False, True])
async def test_hint_of_a_server_parks_all(steady: Server, clock: FakeClock, awaiting: bool) -> None:
    """One 429 with a hint parks every caller of the key; refusals of our own and other failures do not."""
    limiter = limiter_on(steady.url, 100)

    def fail(exc: BaseException) -> None:
        raise exc

    async def afail(exc: BaseException) -> None:
        raise exc

    for exc in (LimitReached(retry_after=9.0), QuotaExhausted(), ValueError(), KeyboardInterrupt()):
        with heard(events.CallersParked) as told, pytest.raises(type(exc)):
            await limiter(afail)(exc) if awaiting else limiter(fail)(exc)
        assert [] == told

    hint = RateLimited(retry_after=30.0)
    with heard(events.CallersParked) as told, pytest.raises(RateLimited):
        await limiter(afail)(hint) if awaiting else limiter(fail)(hint)

    assert [30.0] == [event.wait for event in told]
    assert not limiter.try_acquire()


# The limiter without Redis


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_limiter_while_redis_is_lost(server: Server, clock: FakeClock, how: str) -> None:
    """One caller finds out; then nobody asks Redis, until somebody in the background finds it back."""
    client, attempts = server.counting()
    limiter = limiter_on(client, 1000, timeout=0.05)
    limiter.acquire()

    with heard(*OUTAGE) as told:
        server.stop_answering(how)
        before = len(attempts)
        limiter.acquire()
        found_out = len(attempts)
        assert 1 <= found_out - before <= 2  # a connection that is known to be dead is opened anew
        assert [(events.SharedStateLost, "limiter")] == [(type(event), event.policy) for event in told]
        assert "dependency" == told[0].failure.origin

        for _ in range(100):
            limiter.acquire()
            await limiter.aacquire()
            assert limiter.try_acquire()
        assert found_out == len(attempts)

        clock.advance(LONGEST_PAUSE)
        for _ in range(100):
            limiter.acquire()
        until(lambda: not limiter._window._on_errand)
        limiter.acquire()
        assert 1 <= len(attempts) - found_out <= 2
        assert 1 == len(told)

        server.answer_again(how)
        clock.advance(LONGEST_PAUSE)
        limiter.acquire()
        until(lambda: len(told) == 2)
        assert events.SharedStateRestored is type(told[1])

    assert limiter.try_enter() is None
    assert run(limiter.enter(BLOCKING)) > 1e9
    assert [] == clock.sleeps


def test_crowd_finds_out_together(server: Server) -> None:
    """Of many who wait for a Redis that hangs each waits once, and they count as one loss."""
    client, attempts = server.counting()
    limiter = limiter_on(client, 1000, timeout=0.05)
    limiter.acquire()
    server.hang()
    before = len(attempts)

    with heard(*OUTAGE) as told, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: limiter.acquire(), range(200)))

    assert 1 == len(told)
    assert 1 == limiter._window.link._losses
    assert len(attempts) - before <= 16


async def test_crowd_of_tasks_finds_out_together(server: Server) -> None:
    """Tasks that stand in line for a thread do not wait for a Redis that was lost meanwhile."""
    client, attempts = server.counting()
    limiter = limiter_on(client, 1000, timeout=0.05)
    server.hang()

    with heard(*OUTAGE) as told:
        await asyncio.gather(*(limiter.aacquire() for _ in range(200)))

    assert 1 == len(told)
    assert len(attempts) <= 40  # the threads of the loop


def test_local_limit(tmp_path: Path, clock: FakeClock) -> None:
    """Without Redis a process keeps to its own limit, and waits, refuses and parks all the same."""
    limiter = limiter_on(f"unix://{tmp_path}/nobody.sock", 3, per=100.0, local_limit=2)

    with heard(events.CallWaited, *OUTAGE) as told:
        for _ in range(4):
            limiter.acquire()
        with deadline(50), pytest.raises(DeadlineExceeded):
            limiter.acquire()
        limiter.park(500)
        assert not limiter.try_acquire()
        limiter.acquire()

    assert [100, 500] == pytest.approx(clock.sleeps)
    assert ["rate", "server"] == [event.dictated_by for event in told if type(event) is events.CallWaited]
    assert [events.SharedStateLost] == [type(event) for event in told if type(event) in OUTAGE]


class ParkedMeanwhile(FakeClock):
    """A clock on which the server's demand arrives during the first wait."""

    limiter: RedisRateLimiter

    def sleep(self, seconds: float) -> None:
        """Wait as always, and hear the server's demand the first time."""
        if not self.sleeps:
            self.limiter.park(60)
        super().sleep(seconds)


@pytest.mark.parametrize("awaiting", [False, True])
async def test_parked_while_it_waits_without_redis(tmp_path: Path, awaiting: bool) -> None:
    """Those who wait already do not start before the server's demand has passed."""
    with ParkedMeanwhile() as clock:
        clock.limiter = limiter_on(f"unix://{tmp_path}/nobody.sock")
        begin = clock.monotonic()
        for _ in range(3):
            if awaiting:
                await clock.limiter.aacquire()
            else:
                clock.limiter.acquire()

        assert [1.0, 59.0, 1.0] == pytest.approx(clock.sleeps)
        assert 61.0 == pytest.approx(clock.monotonic() - begin)


class KilledMeanwhile(FakeClock):
    """A clock on which Redis is killed during the first wait."""

    server: Server

    def sleep(self, seconds: float) -> None:
        """Wait as always, and kill Redis the first time."""
        if not self.sleeps:
            self.server.kill()
        super().sleep(seconds)


def test_lost_while_it_waits(server: Server) -> None:
    """Who has waited for a start that Redis gave has it, though Redis is no more."""
    with KilledMeanwhile() as clock:
        clock.server = server
        limiter = limiter_on(server.url, per=100.0)
        limiter.acquire()
        limiter.acquire()

        assert [100] == pytest.approx(clock.sleeps, abs=2)


class BackMeanwhile(FakeClock):
    """A clock on which Redis comes back, and others use it, during the first wait."""

    server: Server
    limiter: RedisRateLimiter

    def sleep(self, seconds: float) -> None:
        """Wait as always, and start Redis the first time."""
        if not self.sleeps:
            self.server.start()
            assert limiter_on(self.server.url, per=100.0, key=self.limiter.key).try_acquire()
            self.limiter._window.link.answered()
        super().sleep(seconds)


def test_back_while_it_waits(server: Server) -> None:
    """Who has waited for a start that his process gave has it, and does not line up anew at Redis."""
    server.kill()
    with BackMeanwhile() as clock:
        clock.server, clock.limiter = server, limiter_on(server.url, per=100.0)
        clock.limiter.acquire()
        clock.limiter.acquire()

        assert [100] == pytest.approx(clock.sleeps)
        assert not clock.limiter.try_acquire()


def test_what_redis_said_is_remembered(server: Server, clock: FakeClock) -> None:
    """The starts that Redis gave and the parks that it told of hold when it is lost."""
    full, parked = limiter_on(server.url, 2, per=100.0), limiter_on(server.url, 2)
    for _ in range(2):
        assert full.try_acquire()
    limiter_on(server.url, 2, key=parked.key).park(60)
    until(lambda: not parked.try_acquire())

    server.kill()

    assert [False, False] == [full.try_acquire(), parked.try_acquire()]
    full.acquire()
    assert [100] == pytest.approx(clock.sleeps, abs=2)


def test_parks_outlive_a_redis_that_forgets(server: Server, clock: FakeClock) -> None:
    """A Redis that restarts without its data is told of the park once more."""
    limiter = limiter_on(server.url, 100)
    limiter.park(600)
    until(lambda: not limiter._window._on_errand)
    server.kill()
    server.start()
    other = limiter_on(server.url, 100, key=limiter.key)
    assert other.try_acquire()
    limiter._window.link.lost(ConnectionError())

    clock.advance(LONGEST_PAUSE)
    assert not limiter.try_acquire()

    until(lambda: not other.try_acquire())


def test_park_is_told_when_redis_is_back(server: Server, clock: FakeClock) -> None:
    """What a server demanded during an outage holds for the others afterwards, if it still matters."""
    limiter = limiter_on(server.url, 100)
    server.kill()
    limiter.acquire()
    limiter.park(600)
    server.start()
    other = limiter_on(server.url, 100, key=limiter.key)
    assert other.try_acquire()

    clock.advance(LONGEST_PAUSE)
    assert not limiter.try_acquire()

    until(lambda: not other.try_acquire())


def test_pauses_grow(clock: FakeClock) -> None:
    """The pauses between two looks at a dead Redis double and are jittered; an answer ends them."""
    link = Link("unix:///nobody", "", timeout=1.0, first_pause=1.0, policy="", name="", feature="")
    for longest in (1, 2, 4, 8, 16, 30, 30):
        link.lost(ConnectionError())
        assert longest / 2 <= link.retry_at - clock.monotonic() <= longest
        link.lost(ConnectionError())
        assert not link.due()
        clock.advance(longest)
        assert link.due()

    link.answered()
    link.lost(ConnectionError())

    assert link.retry_at - clock.monotonic() <= 1


def test_no_retries_and_no_other_timeouts(steady: Server) -> None:
    """Redis is asked once and for the time that was named, whatever the address or the client says."""
    given = redis.Redis(unix_socket_path=steady.path, socket_timeout=60, decode_responses=True)
    for settings_of in (given, steady.url + "?socket_timeout=60&health_check_interval=9"):
        link = Link(settings_of, "return 1", timeout=0.5, first_pause=1.0, policy="", name="", feature="")
        connection = link._client.connection_pool.make_connection()
        assert 1 == link.call([], [])
        assert (0.5, 0.5, 0) == (
            connection.socket_timeout,
            connection.socket_connect_timeout,
            connection.health_check_interval,
        )
        assert 0 == connection.retry.get_retries()
        link.close()

    remote = Link(
        "redis://localhost:1/0?socket_connect_timeout=60",
        "",
        timeout=0.5,
        first_pause=1.0,
        policy="",
        name="",
        feature="",
    )._client.connection_pool.make_connection()
    assert (0.5, 0.5) == (remote.socket_timeout, remote.socket_connect_timeout)
    assert not remote.maint_notifications_config  # with which a server prolongs the timeout


# Forks, threads that cannot start, wrong arguments

FORK = """
import os, signal, sys
from resilient_agents.policies.redis import RedisRateLimiter, RedisState

limiter = RedisRateLimiter(2, per=100, key="fork", redis=sys.argv[1], timeout=2.0)
state = RedisState(sys.argv[1], prefix="fork", quorum=1.0, refresh=0.02, timeout=2.0)
limiter.acquire()
state.vote("crm", 60)
while not state.state("crm").open:
    pass
limiter._window._lock.acquire()
state._lock.acquire()
child = os.fork()
if not child:
    signal.alarm(10)
    assert (True, False) == (limiter.try_acquire(), limiter.try_acquire())
    assert not state.state("crm").open
    while not state.state("crm").open:
        pass
    import redis
    os._exit(redis.Redis.from_url(sys.argv[1]).zcard("{fork}:breaker:crm:nodes") - 2)
print(os.waitpid(child, 0)[1])
"""


def test_fork(server: Server) -> None:
    """A child has locks, sockets, a thread and a vote of its own."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, server.url]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=30)

    assert "0\n" == parent.stdout


def test_no_thread_can_be_started(server: Server, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is out of threads, or about to end, decides by itself."""

    def refuse(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refuse)
    state, limiter = RedisState(server.url), limiter_on(server.url, 5)
    state.vote("crm", 60)
    limiter.park(60)

    assert UNKNOWN == state.state("crm")
    assert not limiter.try_acquire()
    state.close()


@pytest.mark.parametrize(
    ("settings_", "error", "message"),
    [
        ({"limit": 0}, ValueError, "limit must be 1 or more starts, not 0"),
        ({"limit": True}, TypeError, "limit must be a whole number of starts, not True"),
        ({"per": 0.0}, ValueError, "per must be a time of more than 0 seconds"),
        ({"per": nan}, ValueError, "per must be a time"),
        ({"timeout": inf}, ValueError, "timeout must be a time"),
        ({"local_limit": 0}, ValueError, "local_limit must be 1 or more"),
        ({"local_limit": 8}, ValueError, "8 is more than 7"),
        ({"max_wait": -1.0}, ValueError, "max_wait must be 0 or more"),
        ({"max_wait": nan}, ValueError, "max_wait must be 0 or more"),
        ({"key": ""}, ValueError, "key must be a text without braces"),
        ({"key": "a{b}"}, ValueError, "key must be a text without braces"),
        ({"key": 5}, TypeError, "key must be a text, not 5"),
        ({"redis": 5}, TypeError, "takes the address of a Redis server.*not builtins.int"),
        ({"redis": "localhost"}, ValueError, "scheme"),
    ],
)
def test_wrong_arguments_of_a_limiter(
    settings_: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A wrong argument is refused, and the message says what is right."""
    arguments = {"limit": 7, "key": "crm", "redis": "redis://localhost", **settings_}
    with pytest.raises(error, match=message):
        RedisRateLimiter(**arguments)


@pytest.mark.parametrize("seconds", [-1.0, nan, inf])
def test_wrong_park(seconds: float) -> None:
    """A park that is no time is refused."""
    with pytest.raises(ValueError, match="parked for 0 or more seconds"):
        RedisRateLimiter(7, key="crm", redis="redis://localhost").park(seconds)


def test_no_secret_is_shown() -> None:
    """What is printed names no password."""
    address = "redis://user:secret@localhost/0"

    assert "RedisRateLimiter(7, per=1.0, key='crm')" == repr(RedisRateLimiter(7, key="crm", redis=address))
    assert "RedisState(prefix='resilient-agents', quorum=0.5)" == repr(RedisState(address))


def test_redis_is_loaded_when_it_is_used(modules_loaded_by: Callable[[str], set[str]]) -> None:
    """Importing the module loads no third-party package."""
    assert "redis" not in modules_loaded_by("import resilient_agents.policies.redis")
