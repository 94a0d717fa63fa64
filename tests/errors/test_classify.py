"""One decision about each failure: from real failures, in the order of the evidence."""

import asyncio
import errno
import http
import os
import socket
import ssl
import timeit
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import httpx
import httpx2
import psycopg
import psycopg.errors
import pytest
import redis
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents import events
from resilient_agents._clock import SystemClock, use_clock
from resilient_agents.errors import (
    Advice,
    Category,
    Failure,
    Level,
    NotFound,
    Origin,
    PermissionDenied,
    RateLimited,
    classify,
    register,
    request_of,
)

SECRET = "hunter22"
URL = f"https://ann:{SECRET}@acme.kommo.com/api/v4/leads?token={SECRET}#{SECRET}"

both = pytest.mark.parametrize("client", [httpx, httpx2])


def caught(call: Callable[[], object]) -> Exception:
    """Return what *call* raises."""
    try:
        call()
    except Exception as exc:
        return exc
    raise AssertionError("nothing was raised")


def caused(outer: Exception, *causes: BaseException) -> Exception:
    """Return *outer*, which each of *causes* in turn caused."""
    link: BaseException = outer
    for cause in causes:
        link.__cause__ = cause
        link = cause
    return outer


def answered(status: int, client: Any = httpx, method: str = "GET", **options: Any) -> Exception:
    """Return what raise_for_status() raises for a response of *status*."""
    request = client.Request(method, URL)
    return caught(client.Response(status, request=request, **options).raise_for_status)


def _brief(found: Failure) -> tuple[str, int, Origin]:
    return found.code, found.status, found.origin


class TestHTTPStatuses:
    """What a response says, ours or a dependency's."""

    @both
    @pytest.mark.parametrize(
        ("status", "code", "answer", "advice"),
        [
            (400, "validation.rejected", 502, Advice.NEVER),
            (401, "auth.rejected", 502, Advice.NEVER),
            (402, "rate_limit.quota", 503, Advice.NEVER),
            (403, "auth.rejected", 502, Advice.NEVER),
            (404, "not_found.dependency", 404, Advice.NEVER),
            (408, "external.timeout", 504, Advice.IDEMPOTENT),
            (409, "conflict.dependency", 409, Advice.NEVER),
            (429, "rate_limit.throttled", 503, Advice.AFTER),
            (498, "validation.rejected", 502, Advice.NEVER),
            (499, "external.reset", 502, Advice.IDEMPOTENT),
            (500, "external.server_error", 502, Advice.IDEMPOTENT),
            (503, "external.overloaded", 503, Advice.AFTER),
            (504, "external.timeout", 504, Advice.IDEMPOTENT),
            (599, "external.server_error", 502, Advice.IDEMPOTENT),
        ],
    )
    def test_of_a_dependency(
        self, client: ModuleType, status: int, code: str, answer: int, advice: Advice
    ) -> None:
        """A dependency's status becomes our verdict, never our status as it is."""
        found = classify(answered(status, client))
        assert (code, answer, advice) == (found.code, found.status, found.advice)
        assert Origin.DEPENDENCY is found.origin
        assert f"HTTP {status}, acme.kommo.com" in found.detail
        assert SECRET not in found.detail

    @pytest.mark.parametrize("status", [status for status in http.HTTPStatus if status >= 400])
    def test_towards_our_caller(self, status: int) -> None:
        """With the origin inbound the caller sees the status as it is."""
        found = classify(answered(status), origin=Origin.INBOUND)
        assert (status, Origin.INBOUND) == (found.status, found.origin)

    def test_a_redirect_that_nobody_follows_is_a_wrong_url(self) -> None:
        """A status below 400 says nothing by itself; the class does."""
        exc = answered(302, headers={"Location": "https://elsewhere.example"})
        assert "validation.rejected" == classify(exc).code

    @pytest.mark.parametrize("status", ["429", None, 7, 1000, True])
    def test_a_strange_status_is_no_evidence(self, status: object) -> None:
        """What is no HTTP status does not count as one."""
        exc = KeyError("x")
        exc.response = type("Response", (), {"status_code": status})()  # type: ignore[attr-defined]
        assert "internal.bug" == classify(exc).code

    @pytest.mark.parametrize("status", [429, 503])
    def test_the_wait_is_taken_from_the_response(self, status: int) -> None:
        """A header or the body that was read says how long to wait."""
        assert 7.0 == classify(answered(status, headers={"Retry-After": "7"})).retry_after
        assert 300.0 == classify(answered(status, json={"retry_after": 300})).retry_after
        assert classify(answered(status, text="<html>")).retry_after is None

    def test_a_date_is_measured_by_the_clock_in_force(self) -> None:
        """The wait until a date counts from the package's own time."""

        class Fixed(SystemClock):
            time = staticmethod(lambda: 1_700_000_000.0)

        with use_clock(Fixed()):
            exc = answered(429, headers={"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT"})
            assert 60.0 == classify(exc).retry_after

    def test_an_unread_stream_is_left_alone(self) -> None:
        """A body that was not read yet is not read for a hint."""

        class Body(httpx.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                raise AssertionError("the stream was read")

        assert classify(answered(429, stream=Body())).retry_after is None

    def test_a_consumed_stream_without_content_is_left_alone(self) -> None:
        """A body that went elsewhere is gone."""

        class Body(httpx.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                yield b'{"retry_after": 5}'

        response = httpx.Response(429, request=httpx.Request("GET", URL), stream=Body())
        assert [b'{"retry_after": 5}'] == list(response.iter_raw())
        assert classify(caught(response.raise_for_status)).retry_after is None


class TestErrno:
    """What the system says."""

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("ECONNREFUSED", "external.connect"),
            ("ECONNRESET", "external.reset"),
            ("EHOSTUNREACH", "external.unavailable"),
            ("ETIMEDOUT", "external.timeout"),
            ("ENOSPC", "internal.resource"),
            ("EMFILE", "internal.resource"),
            ("EADDRINUSE", "internal.configuration"),
            ("EACCES", "internal.configuration"),
            ("ENOENT", "internal.bug"),
            ("EXDEV", "external.unavailable"),
        ],
    )
    def test_an_os_error_is_read_by_its_errno(self, name: str, code: str) -> None:
        """One class, many meanings; what is unknown counts as an outage."""
        assert code == classify(OSError(getattr(errno, name), "x")).code

    def test_numbers_of_other_families_are_not_read_as_errno(self) -> None:
        """A resolver's and OpenSSL's own numbers collide with errno; the class goes first."""
        assert "external.dns" == classify(socket.gaierror(errno.EACCES, "x")).code
        assert "external.tls" == classify(caught(_broken_handshake)).code

    def test_a_full_disk_is_named(self) -> None:
        """The detail names the errno, and no path."""
        found = classify(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"/srv/{SECRET}"))
        assert "This machine is out of resources: OSError, ENOSPC" == found.detail


def _broken_handshake() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    context = ssl.create_default_context()
    context.wrap_bio(incoming, outgoing, server_hostname="x.example").do_handshake()


class TestCauses:
    """What an exception says was its cause."""

    def test_a_users_wrapper_means_what_it_wraps(self) -> None:
        """An exception of which nothing is known is judged by its cause."""

        class CRMError(Exception):
            pass

        exc = caused(
            CRMError("x"), RuntimeError("y"), httpx.ReadTimeout("z", request=httpx.Request("GET", URL))
        )
        found = classify(exc)
        assert "external.timeout" == found.code
        assert found.detail.endswith("httpx.ReadTimeout, acme.kommo.com")

    def test_a_vague_wrapper_gives_way_to_a_defect(self) -> None:
        """A bug of ours behind a connection error is a bug."""
        assert "internal.bug" == classify(caused(ConnectionError("x"), TypeError("y"))).code

    @pytest.mark.parametrize(
        "cause",
        [
            OSError("all attempts failed"),
            ConnectionResetError(),
            OSError(errno.EHOSTUNREACH, "x"),
            TimeoutError(),
            *(
                OSError(getattr(errno, name), "x")
                for name in ("EPERM", "EACCES", "EMFILE", "ENFILE", "ENOMEM", "EIO", "ENOBUFS", "ENOENT")
            ),
        ],
        ids=repr,
    )
    def test_what_is_provably_unsent_stays_so(self, cause: Exception) -> None:
        """Neither what may have run elsewhere nor what this machine lacks weakens a failure to connect."""
        found = classify(caused(httpx.ConnectError("x"), cause))
        assert ("external.connect", Advice.SAFE, 503) == (found.code, found.advice, found.status)
        assert found.outage

    @pytest.mark.parametrize(
        ("cause", "code"),
        [(socket.gaierror(socket.EAI_NONAME, "x"), "external.dns"), (ssl.SSLError(1, "x"), "external.tls")],
        ids=["dns", "tls"],
    )
    def test_a_failure_to_connect_is_refined(self, cause: Exception, code: str) -> None:
        """A name that is unknown and a handshake that fails are told from a closed port."""
        assert code == classify(caused(httpx.ConnectError("x"), cause)).code

    def test_a_telling_class_is_not_overruled(self) -> None:
        """A connect timeout is one, though the socket's own error is a mere timeout."""
        found = classify(caused(httpx.ConnectTimeout("x"), TimeoutError()))
        assert ("external.timeout_connect", Advice.SAFE, 504) == (found.code, found.advice, found.status)

    def test_a_mere_context_is_no_cause(self) -> None:
        """What happened to be handled at the time says nothing."""

        def handle() -> None:
            try:
                raise httpx.ReadTimeout("x")
            except httpx.ReadTimeout:
                raise ValueError("y")  # noqa: B904  # the point of the test

        assert "internal.bug" == classify(caught(handle)).code

    def test_a_cycle_ends(self) -> None:
        """Exceptions that cause each other are looked at once."""
        one, other = RuntimeError(), Exception()
        caused(one, other, one)
        assert "internal.bug" == classify(one).code
        assert "internal.bug" == classify(other).code
        assert request_of(one) is None

    def test_a_long_chain_is_followed_eight_links(self) -> None:
        """Evidence beyond the eighth link is too far away."""
        near = caused(Exception(), *(Exception() for _ in range(6)), MemoryError())
        far = caused(Exception(), *(Exception() for _ in range(7)), MemoryError())
        assert ("internal.resource", "internal.unexpected") == (classify(near).code, classify(far).code)

    def test_a_cancellation_behind_a_failure_is_no_evidence(self) -> None:
        """Only failures count as causes."""
        assert "internal.unexpected" == classify(caused(Exception(), asyncio.CancelledError())).code

    def test_the_last_attempt_of_tenacity_counts(self) -> None:
        """A RetryError is judged by the failure that ended it, even where its cause was lost."""

        @tenacity.retry(stop=tenacity.stop_after_attempt(1))
        def refused() -> None:
            raise httpx.ConnectError("x")

        exc = caught(refused)
        assert "external.connect" == classify(exc).code
        exc.__cause__ = None
        assert "external.connect" == classify(exc).code

    def test_an_unfinished_attempt_is_not_waited_for(self) -> None:
        """A RetryError without an outcome is judged at once, by its class."""
        assert "external.unavailable" == classify(tenacity.RetryError(tenacity.Future(1))).code

    def test_the_drivers_error_behind_an_orm_counts(self) -> None:
        """What SQLAlchemy keeps in orig is read, by name and without importing it."""
        wrapper: Any = type("StatementError", (Exception,), {"__module__": "sqlalchemy.exc"})
        derived: Any = type("OperationalError", (wrapper,), {"__module__": "sqlalchemy.exc"})
        exc = derived("x")
        exc.orig = psycopg.errors.DeadlockDetected("y")
        found = classify(exc)
        assert ("conflict.transaction", Advice.TRANSACTION) == (found.code, found.advice)
        assert found.detail.endswith("psycopg.errors.DeadlockDetected, SQLSTATE 40P01")


class TestGroups:
    """Several failures at once."""

    def test_the_leaf_that_forbids_most_counts(self) -> None:
        """Never goes before transaction, idempotent, after and safe."""
        safe, after = ConnectionRefusedError(), RateLimited(retry_after=9)
        unknown, transaction = TimeoutError(), redis.WatchError()
        leaves: list[Exception] = [safe, after, unknown, transaction, KeyError()]
        expected = [Advice.SAFE, Advice.AFTER, Advice.IDEMPOTENT, Advice.TRANSACTION, Advice.NEVER]
        found = [classify(ExceptionGroup("g", leaves[: count + 1])).advice for count in range(5)]
        assert expected == found

    def test_of_equals_the_loudest_counts_then_the_first(self) -> None:
        """A full disk is louder than a missing lead."""
        leaves = [NotFound(), MemoryError(), KeyError()]
        assert "internal.resource" == classify(ExceptionGroup("g", leaves)).code
        assert (
            "not_found.missing"
            == classify(ExceptionGroup("g", [NotFound(), NotFound(code="not_found.x")])).code
        )

    def test_groups_are_looked_into_at_any_depth(self) -> None:
        """Nested groups and groups behind causes do not hide their leaves."""
        group: Exception = TimeoutError()
        for _ in range(2000):
            group = ExceptionGroup("g", [group])
        assert "external.timeout" == classify(group).code
        assert (
            "external.timeout" == classify(caused(RuntimeError(), ExceptionGroup("g", [TimeoutError()]))).code
        )
        assert "internal.unexpected" == classify(ExceptionGroup("g", [Exception()])).code

    def test_groups_in_circles_end(self) -> None:
        """A leaf that was caused by its own group is looked at once."""
        leaves = [Exception(), Exception()]
        group = ExceptionGroup("g", leaves)
        for leaf in leaves:
            leaf.__cause__ = group
        assert "internal.unexpected" == classify(group).code

    def test_groups_behind_groups_are_bounded(self) -> None:
        """Groups that cause each other's leaves are followed a few levels only."""
        exc: Exception = MemoryError()
        for _ in range(500):
            exc = ExceptionGroup("g", [caused(Exception(), exc)])
        assert "internal.unexpected" == classify(exc).code

    def test_a_group_with_ctrl_c_is_raised(self) -> None:
        """A group that holds more than failures is no failure."""
        group = BaseExceptionGroup("g", [KeyError(), KeyboardInterrupt()])
        with pytest.raises(BaseExceptionGroup) as raised:
            classify(group)
        assert group is raised.value


@pytest.mark.parametrize("cls", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_failure_is_raised_again(cls: type[BaseException]) -> None:
    """Cancellation, Ctrl-C and exit pass through the classifier."""
    exc = cls()
    for _ in range(2):
        with pytest.raises(cls) as raised:
            classify(exc)
        assert exc is raised.value


class TestSQLStates:
    """What PostgreSQL says."""

    @pytest.mark.parametrize(
        ("state", "code"),
        [
            ("23505", "conflict.unique"),
            ("23503", "validation.constraint"),
            ("40001", "conflict.transaction"),
            ("57P03", "external.connect"),
            ("22ZZZ", "validation.data"),
            ("ZZ000", "external.unavailable"),
            ("2", "external.unavailable"),
            (f"22 {SECRET}", "external.unavailable"),
        ],
    )
    def test_a_state_is_read_exactly_then_by_its_class(self, state: str, code: str) -> None:
        """A state that nobody listed counts as its class; what is no state is no evidence."""
        exc = psycopg.OperationalError("x")
        exc.sqlstate = state
        found = classify(exc)
        assert code == found.code
        assert SECRET not in found.detail


class TestOrigin:
    """Whose failure it is, where the caller knows better."""

    def test_it_brings_its_own_status(self) -> None:
        """The same refusal is a 403 to our caller and a 502 from a dependency."""
        assert 403 == classify(PermissionDenied()).status
        assert 403 == classify(PermissionDenied(), origin=Origin.INBOUND).status
        assert 502 == classify(PermissionDenied(), origin=Origin.DEPENDENCY).status
        assert 429 == classify(RateLimited(), origin=Origin.INBOUND).status

    def test_a_defect_stays_a_defect(self) -> None:
        """A bug of ours while talking to a dependency is still a bug."""
        found = classify(KeyError("x"), origin=Origin.DEPENDENCY)
        assert ("internal.bug", 500, Origin.DEPENDENCY) == _brief(found)
        assert not found.outage

    def test_an_unknown_exception_takes_it_too(self) -> None:
        """What nobody knows is still somebody's."""
        assert Origin.DEPENDENCY is classify(Exception(), origin=Origin.DEPENDENCY).origin


class Throttled(Exception):
    """An exception of somebody's SDK."""


@pytest.mark.parametrize(
    ("exc", "outage"),
    [
        (TimeoutError(), True),
        (RateLimited(), True),
        (redis.AuthenticationError(), True),
        (redis.exceptions.LockError(), False),
        (KeyError(), False),
        (PermissionDenied(), False),
    ],
)
def test_an_outage_is_the_targets_not_the_works(exc: Exception, outage: bool) -> None:
    """Network, servers, rate limit and credentials hit every call; a conflict or a bug hits one."""
    assert outage is classify(exc).outage


class TestRules:
    """What a user says goes before what the package knows."""

    def test_a_class_is_registered_with_its_subclasses(self) -> None:
        """A rule holds for subclasses, and until it is taken back."""

        class Worse(Throttled):
            pass

        before = classify(Worse())
        unregister = register(Throttled, category=Category.RATE_LIMIT, retry_after=5.0)
        try:
            found = classify(Worse())
            assert ("rate_limit.throttled", 503, Origin.DEPENDENCY) == _brief(found)
            assert (Advice.AFTER, 5.0) == (found.advice, found.retry_after)
            assert "rate_limit.throttled" == classify(caused(Exception(), Throttled())).code
        finally:
            unregister()
            unregister()
        assert before == classify(Worse())

    def test_every_part_can_be_said(self) -> None:
        """What is given is what is decided."""
        unregister = register(
            Throttled,
            category=Category.EXTERNAL,
            code="external.maintenance",
            origin=Origin.SELF,
            status=599,
            advice=Advice.AFTER,
            retry_after=60.0,
            level=Level.INFO,
            title="Down for the night",
        )
        try:
            found = classify(Throttled(SECRET))
        finally:
            unregister()
        assert found == Failure(
            category=Category.EXTERNAL,
            origin=Origin.SELF,
            code="external.maintenance",
            status=599,
            advice=Advice.AFTER,
            retry_after=60.0,
            level=Level.INFO,
            title="Down for the night",
            detail=f"Down for the night: {__name__}.Throttled",
        )

    def test_a_known_code_brings_its_own_verdict(self) -> None:
        """A code of the package's own need not be spelt out; another origin brings its status."""
        unregister = register(Throttled, category=Category.EXTERNAL, code="external.tls")
        try:
            assert (502, Advice.NEVER) == (classify(Throttled()).status, classify(Throttled()).advice)
        finally:
            unregister()
        unregister = register(Throttled, category=Category.AUTH, origin=Origin.INBOUND)
        try:
            assert 401 == classify(Throttled()).status
        finally:
            unregister()

    def test_a_predicate_sees_the_exception(self) -> None:
        """A rule may look at the exception, also at one that the package knows."""
        unregister = register(
            lambda exc: exc.args == ("quota",), category=Category.RATE_LIMIT, code="rate_limit.quota"
        )
        try:
            assert "rate_limit.quota" == classify(KeyError("quota")).code
            assert "internal.bug" == classify(KeyError("other")).code
        finally:
            unregister()
        assert "internal.bug" == classify(KeyError("quota")).code

    def test_the_later_rule_decides(self) -> None:
        """Of two rules that match, the one registered later counts."""
        first = register(Throttled, category=Category.RATE_LIMIT)
        second = register(Exception, category=Category.NOT_FOUND)
        try:
            assert Category.NOT_FOUND is classify(Throttled()).category
            second()
            assert Category.RATE_LIMIT is classify(Throttled()).category
        finally:
            first()
            second()

    def test_a_broken_predicate_is_logged_once_and_passed_over(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A rule that raises harms no decision."""
        unregister = register(lambda exc: bool(exc.args[7]), category=Category.RATE_LIMIT)
        try:
            assert ["internal.bug"] * 2 == [classify(KeyError()).code for _ in range(2)]
        finally:
            unregister()
        assert 1 == len(caplog.records)

    @pytest.mark.parametrize("match", [7, KeyboardInterrupt, int, asyncio.CancelledError])
    def test_only_failures_and_predicates_are_taken(self, match: Any) -> None:
        """A rule about cancellation or about nonsense is refused where it is written."""
        with pytest.raises(TypeError, match="subclass of Exception, a regular expression or"):
            register(match, category=Category.EXTERNAL)

    def test_a_code_must_fit_its_category(self) -> None:
        """A code and a category that contradict each other are refused."""
        with pytest.raises(ValueError, match="must begin with its category"):
            register(Throttled, category=Category.EXTERNAL, code="internal.bug")


class TestRequestOf:
    """Which request failed, and whether repeating it is harmless."""

    @both
    def test_the_request_of_a_failure(self, client: Any) -> None:
        """Method and idempotency key are found on transport errors and on responses."""
        plain = client.Request("post", URL)
        keyed = client.Request("POST", URL, headers={"idempotency-KEY": "k"})
        assert ("POST", False) == request_of(client.ReadTimeout("x", request=plain))
        assert ("POST", True) == request_of(client.ReadTimeout("x", request=keyed))
        assert ("PATCH", False) == request_of(answered(500, client, method="PATCH"))
        assert request_of(client.ReadTimeout("x")) is None

    def test_it_is_found_behind_causes(self) -> None:
        """A wrapper does not hide the request."""
        exc = caused(Exception(), RuntimeError(), httpx.ReadTimeout("x", request=httpx.Request("PUT", URL)))
        assert ("PUT", False) == request_of(exc)
        assert request_of(KeyError()) is None
        assert request_of(KeyboardInterrupt()) is None

    def test_the_most_dangerous_of_several_counts(self) -> None:
        """In a group one POST makes all of it dangerous to repeat."""
        leaves = [
            httpx.ReadTimeout("x", request=httpx.Request(method, URL)) for method in ("GET", "POST", "DELETE")
        ]
        assert ("POST", False) == request_of(ExceptionGroup("g", [ExceptionGroup("h", leaves)]))

    def test_a_post_behind_a_failed_fallback_counts(self) -> None:
        """A harmless request that failed last does not hide the POST that caused it."""
        post = httpx.ReadTimeout("x", request=httpx.Request("POST", URL))
        exc = caused(httpx.ReadTimeout("y", request=httpx.Request("GET", URL)), post)
        assert ("POST", False) == request_of(exc)

    def test_a_redirected_post_is_still_a_post(self) -> None:
        """The request before a redirect was executed too."""

        def respond(request: httpx.Request) -> httpx.Response:
            if request.method == "POST":
                return httpx.Response(303, headers={"Location": "/done"})
            return httpx.Response(500)

        with httpx.Client(transport=httpx.MockTransport(respond), follow_redirects=True) as client:
            exc = caught(client.post("https://acme.example/leads").raise_for_status)
        assert ("POST", False) == request_of(exc)

    def test_strange_requests_are_no_evidence(self) -> None:
        """Attributes of other kinds under the same names are passed over."""
        exc = KeyError()
        exc.request = type("Request", (), {"method": 7})()  # type: ignore[attr-defined]
        assert request_of(exc) is None
        exc.request = type("Request", (), {"method": "GET", "headers": None})()  # type: ignore[attr-defined]
        assert ("GET", False) == request_of(exc)
        exc.request = type("Request", (), {"url": type("URL", (), {"host": 7})()})()  # type: ignore[attr-defined]
        assert "A defect in this program: KeyError" == classify(exc).detail


class Hostile(Exception):
    """An exception whose every attribute raises."""

    @property
    def response(self) -> None:
        """Raise."""
        raise RuntimeError(SECRET)

    request = sqlstate = sqlite_errorname = response


def test_broken_attributes_are_no_evidence() -> None:
    """Other people's properties may raise; the decision is made all the same."""
    assert "internal.unexpected" == classify(Hostile()).code
    assert request_of(Hostile()) is None


values = st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.floats(), st.builds(object))


@given(
    st.dictionaries(st.sampled_from(["response", "request", "sqlstate", "sqlite_errorname", "errno"]), values)
)
def test_no_attribute_makes_the_decision_fail(attributes: dict[str, object]) -> None:
    """Whatever an exception carries, there is a decision about it."""
    exc = OSError("x")
    vars(exc).update(attributes)
    assert isinstance(classify(exc), Failure)
    assert request_of(exc) is None


@given(st.text(min_size=4))
def test_the_text_of_an_unknown_exception_is_never_shown(text: str) -> None:
    """The detail is built from safe facts only."""

    class Unknown(Exception):
        pass

    expected = f"Unexpected failure: {__name__}.{Unknown.__qualname__}"
    assert expected == classify(Unknown(text)).detail


def test_a_decision_survives_thousands_of_classes() -> None:
    """Classes made at run time do not fill the memory, and each is still judged."""
    classes = [type(f"Made{number}", (KeyError,), {}) for number in range(5000)]
    assert {"internal.bug"} == {classify(cls()).code for cls in classes}


def test_a_familiar_exception_is_judged_in_no_time() -> None:
    """A class that was seen before costs a look-up: far below what raising it costs."""
    exc = KeyError("x")
    classify(exc)
    best = min(timeit.repeat(lambda: classify(exc), number=1000, repeat=20)) / 1000
    assert best < 5e-6


def test_classifying_emits_nothing() -> None:
    """A decision is no event; who acts on it says so."""
    heard: list[events.Event] = []
    events.subscribe(events.Event)(heard.append)
    classify(KeyError())
    assert [] == heard
