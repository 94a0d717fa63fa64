"""Failures in Sentry: which are sent, with what on them, how often, and that none is sent twice."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.scrubber import EventScrubber
from tests.integrations.sentry_recorder import DSN, Recorder, no_client

from resilient_agents import correlation, events, retry
from resilient_agents.errors import (
    AuthFailed,
    ConfigurationError,
    Conflict,
    DeadlineExceeded,
    Failure,
    InternalFailure,
    NotFound,
    Origin,
    QuotaExhausted,
    RateLimited,
    StorageFull,
    Unreachable,
    ValidationFailed,
    classify,
)
from resilient_agents.errors.handling import log_failure
from resilient_agents.integrations import sentry
from resilient_agents.integrations._repeats import MOST, Repeats, fingerprint, mark, marked
from resilient_agents.integrations._sentry_scrubber import Scrubber
from resilient_agents.testing import FakeClock

log = logging.getLogger("app")


@pytest.fixture(autouse=True)
def clock() -> Iterator[FakeClock]:
    """The time moves when told to."""
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """What is sent while the installation is in force."""
    recorder = Recorder()
    with no_client():
        stop = sentry.install(
            DSN, transport=recorder, default_integrations=False, integrations=[LoggingIntegration()]
        )
        yield recorder
        stop()


def raised(exc: BaseException) -> Any:
    """Return an exception that was raised."""
    try:
        raise exc
    except type(exc) as caught:
        return caught


def failing(exc: Callable[[], Exception], before: Callable[[Exception], None] | None = None) -> None:
    """Retry something three times, and let the last failure pass."""

    @retry(attempts=3)
    def fetch() -> None:
        try:
            raise exc()
        except Exception as failed:
            if before is not None:
                before(failed)
            raise

    fetch()


def test_one_event_for_an_operation(recorder: Recorder) -> None:
    """Attempts are breadcrumbs; what the retry gave up on is one event, with the tags of the decision."""
    with correlation.bind(request_id="r-1", organization_id="o-1"), pytest.raises(Unreachable):
        failing(lambda: Unreachable("crm.test is down"))

    (event,) = recorder.events
    assert "error" == event["level"]
    assert {
        "code": "external.unreachable",
        "category": "external",
        "origin": "dependency",
        "request_id": "r-1",
        "organization_id": "o-1",
        "target": f"{__name__}.failing.<locals>.fetch",
        "attempts": "3",
        "reason": "attempts",
    } == event["tags"]
    assert ["Unreachable"] == [value["type"] for value in event["exception"]["values"]]
    breadcrumbs = event["breadcrumbs"]["values"]
    assert ["retry", "retry"] == [crumb["category"] for crumb in breadcrumbs]
    assert breadcrumbs[0]["message"].startswith("attempt 1 of ")
    assert {"attempt": 2, "code": "external.unreachable"} == {
        key: breadcrumbs[1]["data"][key] for key in ("attempt", "code")
    }


def test_a_retry_that_helped_is_no_event(recorder: Recorder) -> None:
    """Nobody is told of what went well in the end."""
    failures = [Unreachable("down"), None]

    @retry(attempts=3)
    def fetch() -> None:
        if (exc := failures.pop(0)) is not None:
            raise exc

    fetch()
    assert [] == recorder.events


def of_a_dependency(exc: Exception) -> Failure:
    """Return the decision where a dependency is to blame."""
    return classify(exc, origin=Origin.DEPENDENCY)


def of_a_caller(exc: Exception) -> Failure:
    """Return the decision where who called us is to blame."""
    return classify(exc, origin=Origin.INBOUND)


SENT = [
    (of_a_caller, ValidationFailed("x"), None),
    (of_a_dependency, ValidationFailed("x"), "error"),
    (of_a_caller, AuthFailed("x"), None),
    (of_a_dependency, AuthFailed("x"), "warning"),
    (of_a_caller, NotFound("x"), None),
    (of_a_dependency, NotFound("x"), None),
    (of_a_dependency, Conflict("x"), None),
    (of_a_dependency, RateLimited("x"), None),
    (of_a_caller, RateLimited("x"), None),
    (of_a_dependency, QuotaExhausted("x"), "error"),
    (of_a_dependency, Unreachable("x"), "error"),
    (classify, DeadlineExceeded("x"), "error"),
    (classify, InternalFailure("x"), "error"),
    (classify, ZeroDivisionError("x"), "error"),
    (classify, ConfigurationError("x"), "fatal"),
    (classify, StorageFull("x"), "fatal"),
    (classify, MemoryError("x"), "fatal"),
]


@pytest.mark.parametrize(("judge", "exc", "level"), SENT)
def test_the_table(
    recorder: Recorder, judge: Callable[[Exception], Failure], exc: Exception, level: str | None
) -> None:
    """The decision says which failures of an operation are sent, and how loud."""
    events.emit(
        events.RetryGaveUp,
        target="fetch",
        attempts=1,
        reason="advice",
        failure=judge(exc),
        exception=raised(exc),
    )

    assert ([] if level is None else [level]) == [event["level"] for event in recorder.events]


def failed_request(exc: Exception, failure: Failure | None = None) -> None:
    """Say that a request has failed."""
    events.emit(
        events.RequestFailed,
        method="GET",
        path="/x",
        route="/{name}",
        status=500,
        request_id="r-1",
        duration=0.1,
        failure=failure or classify(exc),
        exception=exc,
    )


def failed_job(exc: Exception, decision: str = "dead_letter") -> None:
    """Say that a job has failed."""
    events.emit(
        events.JobFailed,
        job_id="j-1",
        job_name="sync",
        attempt=2,
        duration=0.1,
        failure=classify(exc),
        decision=decision,
        exception=exc,
        wait=1.0 if decision == "retry" else None,
    )


def test_requests_jobs_and_calls(recorder: Recorder) -> None:
    """What failed is on the tags."""
    failed_request(raised(Unreachable("one")))
    failed_job(raised(ConnectionResetError()))
    events.emit(
        events.CallFailed,
        target="m.consume",
        failure=classify(KeyError()),
        exception=raised(KeyError("x")),
    )

    request, job, call = (event["tags"] for event in recorder.events)
    assert ("GET", "/{name}", "r-1") == (request["method"], request["route"], request["request_id"])
    assert ("j-1", "sync", "2") == (job["job_id"], job["job_name"], job["attempts"])
    assert "m.consume" == call["target"]


def test_what_is_not_told_of(recorder: Recorder) -> None:
    """A refusal of ours, a job that is tried again, a call that found nothing."""
    failed_request(raised(NotFound("x")))
    failed_job(raised(NotFound("x")))
    failed_job(raised(Unreachable("x")), "retry")
    events.emit(
        events.CallFailed, target="f", failure=classify(NotFound("x")), exception=raised(NotFound("x"))
    )
    events.emit(
        events.RetryGaveUp, target="f", attempts=1, reason="advice", failure=classify(Unreachable("x"))
    )
    assert [] == recorder.events

    failed_job(raised(ZeroDivisionError()))
    (crumb,) = recorder.events[0]["breadcrumbs"]["values"]
    assert ("job", "attempt 2 of job sync failed: external.unreachable") == (
        crumb["category"],
        crumb["message"],
    )


def test_what_has_no_exception(recorder: Recorder, clock: FakeClock) -> None:
    """A parked entry and an open breaker are told by a text, once a window too."""

    def happen() -> None:
        events.emit(
            events.EntryParked,
            topic="leads",
            entry_id=1,
            key="k",
            reason="validation.rejected",
            failure=of_a_dependency(ValidationFailed("x")),
        )
        events.emit(events.EntryParked, topic="leads", entry_id=2, key="k", reason="internal.crashes")
        for reason in ("failures", "slow", "probe", "forced", "shared"):
            events.emit(
                events.BreakerOpened,
                policy="breaker",
                name="kommo" if reason == "failures" else "",
                wait=30.0,
                failure_rate=0.5,
                slow_rate=0.0,
                reason=reason,
                enforced=True,
            )

    happen()
    happen()
    assert [
        "an entry of leads was parked: validation.rejected",
        "an entry of leads was parked: internal.crashes",
        "the breaker kommo opened: failures",
        "the breaker without a name opened: slow",
    ] == [event["message"] for event in recorder.events]
    assert {"error"} == {event["level"] for event in recorder.events}
    assert "dependency" == recorder.events[0]["tags"]["origin"]
    clock.advance(61)
    happen()
    assert 8 == len(recorder.events)
    assert "1" == recorder.events[-1]["tags"]["suppressed"]


def boom(text: str = "x") -> Any:
    """Return an exception of one kind."""
    return raised(ZeroDivisionError(text))


def test_a_repeated_failure_is_sent_once_a_window(recorder: Recorder, clock: FakeClock) -> None:
    """The first passes, then one a window, with the number of those that did not."""
    assert [True, False, False] == [sentry.capture(boom()) for _ in range(3)]
    clock.advance(59.9)
    assert not sentry.capture(boom())
    clock.advance(0.2)
    assert sentry.capture(boom())
    clock.advance(60)
    assert sentry.capture(boom())

    assert [None, "3", None] == [event["tags"].get("suppressed") for event in recorder.events]


def test_kinds_are_told_apart(recorder: Recorder) -> None:
    """Another class, code or line is another failure; another message is not."""
    sentry.capture(boom("one"))
    sentry.capture(boom("two"))
    sentry.capture(raised(ZeroDivisionError()))
    sentry.capture(raised(KeyError()))
    sentry.capture(boom(), classify(StorageFull("x")))
    sentry.capture(ZeroDivisionError())
    sentry.capture(ZeroDivisionError())
    sentry.capture(KeyboardInterrupt(), extra_tag="x")

    assert 5 == len(recorder.events)
    assert "x" == recorder.events[-1]["tags"]["extra_tag"]


def test_a_thousand_of_one_kind(recorder: Recorder) -> None:
    """They are one event."""
    for _ in range(1000):
        sentry.capture(boom())

    assert 1 == len(recorder.events)


def test_the_line_of_the_program_counts() -> None:
    """Failures inside a library are told apart by the line that called it, and not by the library's."""
    import json

    def parse(text: str) -> Any:
        try:
            json.loads(text)
        except ValueError as exc:
            return exc

    first, second = parse("{"), parse("[1,")
    assert fingerprint(first, "c") == fingerprint(second, "c")
    with pytest.raises(ValueError, match="Expecting") as other:
        json.loads("{")
    assert fingerprint(first, "c") != fingerprint(other.value, "c")


def test_a_traceback_without_the_program() -> None:
    """Where there is no line of the program, the innermost one stands in."""
    import json

    with pytest.raises(ValueError, match="Expecting") as raised:
        json.loads("{")
    exc = raised.value
    assert __file__ in str(fingerprint(exc, "c"))
    exc.__traceback__ = raised.tb.tb_next
    assert "decoder.py" in str(fingerprint(exc, "c"))


def test_an_installed_package_is_not_the_program() -> None:
    """Its files are known by where they are."""
    exc = raised_in("/venv/lib/python3.12/site-packages/httpx/_client.py")
    own = raised(exc)

    assert __file__ in str(fingerprint(own, "c"))


def test_programs_that_make_code_without_end() -> None:
    """What is known of files does not grow for ever."""
    from resilient_agents.integrations import _repeats

    before = dict(_repeats._in_app)
    try:
        _repeats._in_app.update({f"<made {number}>": True for number in range(10_001)})
        fingerprint(raised_in("<made at last>"), "c")
        assert 10 > len(_repeats._in_app)
    finally:
        _repeats._in_app.clear()
        _repeats._in_app.update(before)


def raised_in(file: str) -> Exception:
    """Return an exception that was raised in a file of that name."""
    try:
        exec(compile("1 / 0", file, "exec"), {})  # noqa: S102
    except ZeroDivisionError as exc:
        exc.__traceback__ = exc.__traceback__ and exc.__traceback__.tb_next
        return exc
    raise AssertionError


def test_kinds_are_forgotten() -> None:
    """Of more kinds than are known at a time, the one that was told longest ago is new again."""
    repeats = Repeats(60.0)
    for number in range(MOST + 1):
        assert 0 == repeats.passes(number, 0.0)

    assert None is repeats.passes(MOST, 0.0)
    assert 0 == repeats.passes(0, 0.0)
    assert None is repeats.passes(2, 0.0)


def test_a_thread_that_comes_second_is_counted() -> None:
    """Between the look and the lock another thread may have been first."""

    class Late(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            return default

    repeats = Repeats(60.0)
    repeats._kinds = Late()

    assert [0, None, None] == [repeats.passes("kind", 0.0) for _ in range(3)]
    assert 2 == next(repeats._kinds["kind"][1])
    assert 3 == repeats.passes("kind", 60.0)


def by_capture(exc: Exception) -> None:
    """Report it with Sentry's own function."""
    sentry_sdk.capture_exception(exc)


def by_logging(exc: Exception) -> None:
    """Log it with its traceback."""
    log.error("failed", exc_info=exc)


def by_capture_of_ours(exc: Exception) -> None:
    """Report it with ours."""
    sentry.capture(exc)


WAYS = [by_capture, by_logging, by_capture_of_ours, failed_request, failed_job]


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
def test_no_exception_is_sent_twice(
    recorder: Recorder, first: Callable[[Exception], None], second: Callable[[Exception], None]
) -> None:
    """Whoever reports it, and in whatever order, in this thread or in another: one event."""
    exc = boom()
    first(exc)
    second(exc)
    thread = threading.Thread(target=second, args=(exc,))
    thread.start()
    thread.join()

    assert 1 == len(recorder.events)
    assert ("internal", "internal.bug") == (
        recorder.events[0]["tags"]["category"],
        recorder.events[0]["tags"]["code"],
    )


def wrapped(wrap: Callable[[Exception], None]) -> Any:
    """Return what a handler raises of a failure that was given up on."""
    try:
        try:
            failing(lambda: Unreachable("down"))
        except Unreachable as exc:
            wrap(exc)
    except Exception as exc:
        return exc
    raise AssertionError


def raise_from(exc: Exception) -> None:
    """Say what failed in the words of the program."""
    raise RuntimeError("could not fetch") from exc


def answer(exc: Exception) -> None:
    """Answer, as those do who do not think of the cause."""
    raise RateLimited("later")


def stumble(exc: Exception) -> None:
    """Have a defect."""
    int("no number")


@pytest.mark.parametrize(("wrap", "sent"), [(raise_from, 1), (answer, 1), (stumble, 2)])
def test_a_failure_under_another_name(
    recorder: Recorder, wrap: Callable[[Exception], None], sent: int
) -> None:
    """It keeps its one event under the names that it gets further out; a defect on the way is one more."""
    outer = wrapped(wrap)
    failed_request(outer, of_a_dependency(QuotaExhausted("x")) if wrap is answer else None)
    log.error("failed", exc_info=outer)

    assert sent == len(recorder.events)


LOGGED = [
    lambda exc: log.error("failed", exc_info=exc),
    lambda exc: log.error("failed: %s", exc),
    lambda exc: log.error(f"failed: {exc}"),
    lambda exc: sentry_sdk.capture_exception(exc),
]


@pytest.mark.parametrize("report", LOGGED)
def test_three_attempts_that_are_logged_are_one_event(
    recorder: Recorder, report: Callable[[Exception], None]
) -> None:
    """A program that logs each attempt, and the failure at the end, makes one event with a traceback."""
    with pytest.raises(Unreachable) as outer:
        failing(lambda: Unreachable("down"), report)
    failed_request(outer.value)
    log.error("gave up", exc_info=outer.value)

    (event,) = recorder.events
    assert "external.unreachable" == event["tags"]["code"]
    assert "Unreachable" == event["exception"]["values"][0]["type"]


def test_lines_that_tell_of_no_failure_pass(recorder: Recorder) -> None:
    """What somebody logs as an error is sent as ever, with what the context knows."""
    with correlation.bind(job_id="j-1"):
        log.error("one")
        log.error("one")
    sentry_sdk.capture_message("two")

    assert ["one", "one", "two"] == [
        event.get("message") or event["logentry"]["message"] for event in recorder.events
    ]
    assert {"job_id": "j-1"} == recorder.events[0]["tags"]


def test_what_is_logged_is_judged_and_what_is_asked_for_is_not(recorder: Recorder) -> None:
    """Nobody is woken by a log line about something that was not found, but who reports it outright may."""
    log.error("failed", exc_info=raised(NotFound("x")))
    assert [] == recorder.events
    sentry_sdk.capture_exception(raised(NotFound("x")))
    assert 1 == len(recorder.events)
    log.error("stopped", exc_info=raised(KeyboardInterrupt()))
    assert 2 == len(recorder.events)


def test_our_own_log_lines_make_no_events(recorder: Recorder) -> None:
    """What a line of ours says of a failed request is an event already; other lines of ours are sent."""
    ours = logging.getLogger("resilient_agents.requests")
    log_failure(ours, "request_failed", "GET /", classify(KeyError()), KeyError())
    assert [] == recorder.events
    ours.error("the queue cannot be opened")
    assert 1 == len(recorder.events)


def test_an_exception_that_is_raised_again_later_is_sent_again(recorder: Recorder, clock: FakeClock) -> None:
    """Some programs raise one object for ever: after the window it is a new failure."""
    exc = boom()
    assert sentry.capture(exc)
    clock.advance(61)
    assert sentry.capture(exc)


def test_variables_are_not_sent(recorder: Recorder) -> None:
    """What functions held is their own affair."""
    mine = "value-of-a-variable"
    sentry.capture(boom())

    assert mine
    assert "vars" not in recorder.sent
    assert "value-of-a-variable" not in str(recorder.events[0]["exception"]["values"][0]["value"])


def test_nothing_raises(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is reported, and whatever happens on the way, the program goes on."""

    class Odd(Exception):
        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    class Bad(Exception):
        def __init__(self) -> None:
            pass

        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise RuntimeError

        def __str__(self) -> str:
            raise RuntimeError

    assert not sentry.capture(Odd())
    mark(Odd(), 0.0)
    bad = raised(Bad())
    assert sentry.capture(bad)
    sentry_sdk.capture_exception(bad)
    assert 1 == len(recorder.events)

    def broken(envelope: Any) -> None:
        raise OSError

    monkeypatch.setattr(recorder, "capture_envelope", broken)
    assert not sentry.capture(boom())


def test_a_long_chain_is_followed_so_far() -> None:
    """A cycle of causes has an end."""
    one, two = ValueError(), ValueError()
    one.__cause__, two.__cause__ = two, one
    assert not marked(one, 0.0)
    mark(two, 1.0)
    assert marked(one, 0.0)


def test_one_of_many_threads_passes() -> None:
    """However many fail at the same moment, one is told of, and the others are counted."""
    repeats = Repeats(60.0)
    passed: list[int | None] = []
    start = threading.Barrier(8)

    def fail() -> None:
        start.wait()
        passed.extend([repeats.passes("kind", 0.0) for _ in range(500)])

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [0] == [one for one in passed if one is not None]
    assert 3999 == next(repeats._kinds["kind"][1])


def test_it_attaches_to_a_client_that_is_there() -> None:
    """Who made the client himself keeps it; while ours is in force its options are safe."""
    recorder = Recorder()
    with no_client():
        sentry_sdk.init(DSN, transport=recorder, default_integrations=False)
        client = sentry_sdk.get_client()
        before = {name: client.options[name] for name in (*sentry.SAFE, "event_scrubber")}
        stop = sentry.install()
        assert client is sentry_sdk.get_client()
        assert sentry.SAFE == {name: client.options[name] for name in sentry.SAFE}
        failed_request(boom())
        sentry.install()  # a second one replaces the first
        failed_request(raised(KeyError()))
        sentry.install(window=5)()
        failed_request(raised(IndexError()))
        stop()
        stop()
        after = {name: client.options[name] for name in (*sentry.SAFE, "event_scrubber")}

    assert 2 == len(recorder.events)
    assert before == after


def test_options_of_the_user_win() -> None:
    """Who wants variables says so; a scrubber of his looks after ours."""
    recorder = Recorder()
    with no_client():
        stop = sentry.install(
            DSN,
            transport=recorder,
            default_integrations=False,
            include_local_variables=True,
            event_scrubber=EventScrubber(denylist=["inner"], recursive=True),
        )
        sentry_sdk.set_extra("data", {"inner": "hunter3", "password": "hunter2"})
        sentry.capture(boom())
        stop()

    assert "hunter" not in recorder.sent
    assert "vars" in recorder.events[0]["exception"]["values"][0]["stacktrace"]["frames"][0]


def test_without_a_client_nothing_is_done() -> None:
    """A program without a DSN, as on a developer's machine, runs as ever."""
    stop = sentry.install(None)
    failed_request(boom())

    assert not sentry.capture(boom())
    stop()


@pytest.mark.parametrize("window", [0, -1.0, float("nan")])
def test_bad_windows(window: float) -> None:
    """A window is a time."""
    with pytest.raises(ValueError, match="window is a time"):
        sentry.install(window=window)


def test_other_events_pass(recorder: Recorder) -> None:
    """Transactions and the like are none of ours."""
    sentry_sdk.capture_event({"type": "transaction", "transaction": "t", "spans": []})

    assert '"transaction":"t"' in recorder.sent
    assert "tags" not in recorder.sent


def test_what_cannot_be_searched_for_secrets_is_left_out() -> None:
    """An event is sent without that part."""
    event: dict[str, Any] = {
        "message": "m",
        "request": 5,
        "exception": {"values": [{"value": "bearer abcdefghijk"}, {"stacktrace": {"frames": [{}]}}]},
        "threads": {},
        "extra": {"password": "hunter2"},
    }
    Scrubber().scrub_event(event)

    assert {
        "message": "m",
        "exception": {"values": [{"value": "bearer ***"}, {"stacktrace": {"frames": [{}]}}]},
        "extra": {"password": "***"},
    } == event
