"""What other people's exceptions carry, read by name: no library is needed to know its exceptions."""

import re
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.errors import (
    Advice,
    Category,
    Failure,
    Origin,
    classify,
    dependency,
    register,
    request_of,
)
from resilient_agents.errors.codes import AWS, GRPC, LIBPQ, MODELS, QUOTAS
from resilient_agents.errors.knowledge import CACHE
from resilient_agents.errors.tables import VERDICTS

SECRET = "hunter22"
NEVER, IDEMPOTENT, AFTER = Advice.NEVER, Advice.IDEMPOTENT, Advice.AFTER


def known(name: str, *bases: type, **attributes: Any) -> Any:
    """Return an instance of a class that has the qualified *name*, with *attributes*."""
    module, _, qualname = name.rpartition(".")
    exc: Any = type(qualname, bases or (Exception,), {"__module__": module})("x")
    vars(exc).update(attributes)
    return exc


REQUEST = httpx.Request("POST", "https://api.example/v1")


def answer(status: int, *, client: Any = httpx, **options: Any) -> Any:
    """Return a response to a POST, whose body was read."""
    return client.Response(status, request=REQUEST, **options)


def sdk(status: int, body: object = None, name: str = "openai.APIStatusError", **headers: str) -> Any:
    """Return what the client of a language model raises for a refusal."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return known(name, response=answer(status, headers=named), status_code=status, body=body)


def by_httpx(status: int, body: object) -> httpx.HTTPStatusError:
    """Return what httpx raises for a refusal."""
    response = answer(status, json=body)
    return httpx.HTTPStatusError("x", request=response.request, response=response)


def decided(found: Failure) -> tuple[str, int, Advice]:
    """Return the part of a decision that these tests are about."""
    return found.code, found.status, found.advice


class TestTowardsOurCaller:
    """The HTTP exceptions of web frameworks are our own refusals, whoever imported them."""

    @pytest.mark.parametrize(
        ("name", "attribute"),
        [
            ("starlette.exceptions.HTTPException", "status_code"),
            ("litestar.exceptions.http_exceptions.HTTPException", "status_code"),
            ("rest_framework.exceptions.APIException", "status_code"),
            ("werkzeug.exceptions.HTTPException", "code"),
        ],
    )
    @pytest.mark.parametrize(
        ("status", "code"),
        [(404, "not_found.missing"), (401, "auth.unauthenticated"), (418, "validation.malformed")],
    )
    def test_their_status_is_the_answer(self, name: str, attribute: str, status: int, code: str) -> None:
        """A refusal reaches our caller as it was meant."""
        found = classify(known(name, **{attribute: status}))
        assert (code, status, NEVER) == decided(found)
        assert Origin.INBOUND is found.origin

    def test_their_subclasses_are_known(self) -> None:
        """What an application derives from them is read alike."""
        base = type(known("starlette.exceptions.HTTPException"))
        assert "conflict.state" == classify(known("shop.errors.OutOfStock", base, status_code=409)).code

    @pytest.mark.parametrize(
        "carried",
        [{"headers": {"Retry-After": "9"}}, {"retry_after": 9}, {"wait": 9.0}],
        ids=["starlette", "werkzeug", "rest_framework"],
    )
    def test_a_wait_is_found_where_each_of_them_keeps_it(self, carried: dict[str, Any]) -> None:
        """Headers, retry_after and wait."""
        found = classify(known("starlette.exceptions.HTTPException", status_code=429, **carried))
        assert ("rate_limit.exceeded", 429, AFTER) == decided(found)
        assert 9.0 == found.retry_after

    def test_what_is_well_formed_and_wrong_is_422(self) -> None:
        """Two frameworks say 400 for it; one body for everything says 422."""
        base = type(known("rest_framework.exceptions.APIException"))
        exc = known("rest_framework.exceptions.ValidationError", base, status_code=400)
        assert ("validation.invalid", 422, NEVER) == decided(classify(exc))

    def test_an_explicit_origin_reads_it_as_a_dependencys(self) -> None:
        """Who calls another service in-process knows better."""
        exc = known("starlette.exceptions.HTTPException", status_code=401)
        assert ("auth.rejected", 502, NEVER) == decided(classify(exc, origin=Origin.DEPENDENCY))

    def test_without_a_status_nothing_is_known(self) -> None:
        """A bare one is unexpected."""
        assert "internal.unexpected" == classify(known("werkzeug.exceptions.HTTPException", code=None)).code


class TestFromADependency:
    """Statuses, wherever a client keeps them."""

    @pytest.mark.parametrize(
        "exc",
        [
            known("aiohttp.client_exceptions.ClientResponseError", status=503),
            known("urllib.error.HTTPError", code=503),
            known("requests.exceptions.HTTPError", response=SimpleNamespace(status_code=503)),
            known("somebody.SDKError", status_code=503),
        ],
        ids=["aiohttp", "urllib", "requests", "unknown"],
    )
    def test_a_status_is_found(self, exc: Exception) -> None:
        """503 is 503 in every client."""
        assert ("external.overloaded", 503, AFTER) == decided(classify(exc))

    def test_the_wait_of_requests_and_aiohttp(self) -> None:
        """Headers are on the response, or on the exception itself."""
        headers = {"Retry-After": "9"}
        response = SimpleNamespace(
            status_code=429, headers=headers, content=b'{"retry_after": 5}', _content_consumed=True
        )
        assert 9.0 == classify(known("requests.exceptions.HTTPError", response=response)).retry_after
        response.headers = {}
        assert 5.0 == classify(known("requests.exceptions.HTTPError", response=response)).retry_after
        response._content_consumed = False
        assert classify(known("requests.exceptions.HTTPError", response=response)).retry_after is None
        exc = known("aiohttp.client_exceptions.ClientResponseError", status=429, headers=headers)
        assert 9.0 == classify(exc).retry_after

    def test_the_host_is_named_and_nothing_else_of_the_url(self) -> None:
        """A URL may be text, as in requests, or an object; both hold secrets."""
        url = f"https://ann:{SECRET}@acme.kommo.com/api?token={SECRET}"
        by_text = known("requests.exceptions.ReadTimeout", request=SimpleNamespace(url=url))
        by_object = known(
            "aiohttp.client_exceptions.SocketTimeoutError",
            request_info=SimpleNamespace(url=SimpleNamespace(host="acme.kommo.com")),
        )
        for exc in (by_text, by_object):
            assert classify(exc).detail.endswith(", acme.kommo.com")
            assert SECRET not in classify(exc).detail
        broken = known("requests.exceptions.ReadTimeout", request=SimpleNamespace(url="http://[broken"))
        assert classify(broken).detail.endswith("ReadTimeout")

    def test_the_request_of_aiohttp_counts(self) -> None:
        """A POST is found in request_info, and in the redirects before."""
        info = SimpleNamespace(method="GET", headers={})
        before = SimpleNamespace(request_info=SimpleNamespace(method="POST", headers={}))
        exc = known("aiohttp.client_exceptions.ClientResponseError", request_info=info, history=(before,))
        assert ("POST", False) == request_of(exc)
        exc.history = ()
        assert ("GET", False) == request_of(exc)

    def test_urllib3_and_requests_say_why_elsewhere(self) -> None:
        """The reason behind the retries, and the context of what requests raises."""
        reason = known("urllib3.exceptions.NameResolutionError")
        spent = known("urllib3.exceptions.MaxRetryError", reason=reason)
        exc = known("requests.exceptions.ConnectionError")
        exc.__context__ = spent
        assert ("external.dns", 503, Advice.SAFE) == decided(classify(exc))
        exc.__context__ = None
        assert ("external.unavailable", 503, IDEMPOTENT) == decided(classify(exc))

    def test_an_orm_knows_less_than_its_driver(self) -> None:
        """However telling the name of the wrapper is, what it wraps says it exactly."""
        base = type(known("sqlalchemy.exc.StatementError"))
        exc = known("sqlalchemy.exc.IntegrityError", base, orig=psycopg.errors.NotNullViolation())
        assert "validation.constraint" == classify(exc).code
        exc.orig = None
        assert "conflict.unique" == classify(exc).code


class TestQuotas:
    """A spent quota is no rate limit, though both are a 429."""

    @pytest.mark.parametrize("status", [400, 402, 403, 429])
    @pytest.mark.parametrize("code", sorted(QUOTAS))
    def test_the_code_in_the_body_decides(self, status: int, code: str) -> None:
        """In the exception's own body, in the response's, at each of the places that are in use."""
        bodies: list[Any] = [
            {"code": code},
            {"error": {"type": code}},
            {"error": {"type": "rate_limit_error", "details": {"error_code": code}}},
        ]
        for body in bodies:
            plain = httpx.HTTPStatusError(
                "x", request=httpx.Request("POST", "https://x"), response=answer(status, json=body)
            )
            for exc in (sdk(status, body), plain):
                assert ("rate_limit.quota", 503, NEVER) == decided(classify(exc))

    @pytest.mark.parametrize(
        "body", [None, "text", {}, {"error": "x"}, {"code": 7}, {"error": {"code": "x"}}]
    )
    def test_a_rate_limit_stays_one(self, body: Any) -> None:
        """Without such a code a 429 passes by itself."""
        assert ("rate_limit.throttled", 503, AFTER) == decided(classify(sdk(429, body)))

    @pytest.mark.parametrize("status", [400, 403, 429])
    def test_what_one_refusal_said_is_not_taken_for_the_next(self, status: int) -> None:
        """Two refusals with the same status and host may say different things."""
        bodies: tuple[Any, ...] = ({}, {"error": {"code": "insufficient_quota"}}, {})
        codes = [classify(by_httpx(status, body)).code for body in bodies]
        assert "rate_limit.quota" == codes[1]
        assert codes[0] == codes[2] != codes[1]

    @pytest.mark.parametrize(
        "name", ["anthropic.EnforcedSpendLimitReachedError", "anthropic.ContractSpendLimitReachedError"]
    )
    def test_a_class_says_it_without_a_body(self, name: str) -> None:
        """Subclasses of a rate limit that are none."""
        base = type(known("anthropic.RateLimitError"))
        assert ("rate_limit.quota", 503, NEVER) == decided(classify(known(name, base, status_code=429)))


class TestLanguageModels:
    """OpenAI and Anthropic."""

    @pytest.mark.parametrize(
        ("status", "told", "expected"),
        [
            (500, "false", NEVER),
            (429, "false", NEVER),
            (500, "true", IDEMPOTENT),
            (400, "true", IDEMPOTENT),
            (429, "true", AFTER),
            (500, "perhaps", IDEMPOTENT),
        ],
    )
    def test_the_server_says_whether_to_repeat(self, status: int, told: str, expected: Advice) -> None:
        """x-should-retry is obeyed, as their own clients do."""
        assert expected is classify(sdk(status, x_should_retry=told)).advice

    def test_it_is_for_their_clients_alone(self) -> None:
        """Another server's header of that name is not looked for."""
        exc = known("somebody.Error", response=answer(500, headers={"x-should-retry": "false"}))
        assert IDEMPOTENT is classify(exc).advice

    def test_no_headers_no_advice(self) -> None:
        """A response that is none harms nothing."""
        exc = known("openai.APIStatusError", response=None, status_code=500, body=None)
        assert ("external.server_error", 502, IDEMPOTENT) == decided(classify(exc))

    @pytest.mark.parametrize("code", sorted(MODELS))
    def test_what_is_said_in_the_midst_of_a_stream(self, code: str) -> None:
        """The status was 200 when the stream began; the body says what went wrong."""
        for body in ({"type": code}, {"type": "error", "error": {"type": code}}):
            found = classify(sdk(200, body, "anthropic.APIStatusError"))
            assert MODELS[code] == found.code
        assert "external.server_error" == classify(known("openai.APIError", body={"type": "news"})).code
        assert (
            "rate_limit.quota" == classify(known("openai.APIError", body={"code": "insufficient_quota"})).code
        )

    @pytest.mark.parametrize("client", ["openai", "anthropic"])
    def test_a_class_says_more_than_its_status(self, client: str) -> None:
        """404 is a model that does not exist, 409 a lock that was not to be had."""
        missing = sdk(404, name=f"{client}.NotFoundError")
        locked = sdk(409, name=f"{client}.ConflictError")
        assert ("validation.rejected", 502, NEVER) == decided(classify(missing))
        assert ("external.server_error", 502, IDEMPOTENT) == decided(classify(locked))

    def test_a_connection_error_that_our_own_defect_caused(self) -> None:
        """Their client wraps whatever the transport raised; a TypeError there is ours."""
        exc = known("openai.APIConnectionError")
        exc.__cause__ = TypeError()
        assert ("internal.bug", 500, NEVER) == decided(classify(exc))
        exc.__cause__ = ConnectionRefusedError()
        assert ("external.connect", 503, Advice.SAFE) == decided(classify(exc))


class TestAWS:
    """botocore has one class for everything."""

    @pytest.mark.parametrize("code", sorted(AWS))
    def test_the_error_code_decides(self, code: str) -> None:
        """It says more than the status beside it."""
        response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        found = classify(known("botocore.exceptions.ClientError", response=response))
        assert AWS[code] == found.code
        assert f"botocore.exceptions.ClientError, {code}" in found.detail

    def test_the_status_decides_where_the_code_is_unknown(self) -> None:
        """Services have codes of their own, and a status."""
        response: Any = {"Error": {"Code": "NoSuchShipment"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
        assert (
            "not_found.dependency"
            == classify(known("botocore.exceptions.ClientError", response=response)).code
        )

    def test_the_wait_is_in_the_metadata(self) -> None:
        """Retry-After stands among the headers that botocore kept."""
        metadata = {"HTTPHeaders": {"retry-after": "7"}}
        response = {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": metadata}
        assert 7.0 == classify(known("botocore.exceptions.ClientError", response=response)).retry_after

    @pytest.mark.parametrize("response", [{}, {"Error": 7}, {"Error": {"Code": 7}, "ResponseMetadata": 7}])
    def test_a_strange_response_is_no_evidence(self, response: Any) -> None:
        """The class is left."""
        assert (
            "external.server_error"
            == classify(known("botocore.exceptions.ClientError", response=response)).code
        )


class TestGRPC:
    """The code of a call."""

    @pytest.mark.parametrize("name", sorted(GRPC))
    def test_the_code_decides(self, name: str) -> None:
        """It is what a method returns."""
        found = classify(known("grpc.RpcError", code=lambda: SimpleNamespace(name=name)))
        assert GRPC[name] == found.code
        assert found.detail.endswith(f"grpc.RpcError, gRPC {name}")

    @pytest.mark.parametrize("code", [None, 7, lambda: None, lambda: SimpleNamespace(name=7), lambda: 1 / 0])
    def test_a_strange_code_is_no_evidence(self, code: Any) -> None:
        """A bare RpcError has none."""
        assert "external.server_error" == classify(known("grpc.RpcError", code=code)).code


class TestPostgreSQL:
    """SQLSTATE under its other name, and what libpq keeps to itself."""

    def test_pgcode(self) -> None:
        """psycopg2, and SQLAlchemy's asyncpg."""
        exc = known("psycopg2.OperationalError", pgcode="40P01")
        assert ("conflict.transaction", 409, Advice.TRANSACTION) == decided(classify(exc))

    @pytest.mark.parametrize(("phrase", "code"), LIBPQ)
    def test_a_connection_that_could_not_be_opened(self, phrase: str, code: str) -> None:
        """The server's words, and none of them is shown."""
        for driver in ("psycopg", "psycopg2"):
            cls: Any = type(known(f"{driver}.OperationalError"))
            exc = cls(f'connection to server at "10.0.0.7" failed: FATAL:  {phrase} for "{SECRET}"')
            found = classify(exc)
            assert code == found.code
            assert SECRET not in found.detail

    @pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
    def test_only_a_servers_words_are_taken(self, driver: str) -> None:
        """The same words in a statement or a path say nothing."""
        exc: Any = type(known(f"{driver}.OperationalError"))("the file does not exist")
        assert "external.unavailable" == classify(exc).code
        other = psycopg.ProgrammingError("FATAL:  password authentication failed")
        assert "internal.query" == classify(other).code

    def test_one_failure_to_connect_is_not_taken_for_the_next(self) -> None:
        """Both have no SQLSTATE."""
        words = (
            "FATAL:  password authentication failed",
            "FATAL:  sorry, too many clients already",
            "refused",
        )
        expected = ["internal.credentials", "external.pool", "external.unavailable"]
        for _ in range(2):
            assert expected == [classify(psycopg.OperationalError(word)).code for word in words]

    def test_a_text_that_cannot_be_made_is_none(self) -> None:
        """Other people's __str__ may raise."""

        class Broken(psycopg.OperationalError):
            def __str__(self) -> str:
                raise RuntimeError

        assert "external.unavailable" == classify(Broken()).code


class TestRules:
    """Regular expressions for register()."""

    @pytest.mark.parametrize("match", ["Busy|try again", re.compile("(?i)BUSY|TRY AGAIN")], ids=repr)
    def test_the_name_and_the_text_are_searched(self, match: Any) -> None:
        """Either may say it."""
        register(match, category=Category.EXTERNAL, code="external.overloaded")
        assert "external.overloaded" == classify(known("sdk.ServerBusy")).code
        assert "external.overloaded" == classify(RuntimeError("please try again")).code
        assert "internal.bug" == classify(RuntimeError("no")).code

    def test_the_text_is_not_shown(self) -> None:
        """What matched is no fact for the detail."""
        register(SECRET, category=Category.EXTERNAL)
        assert "A dependency is unavailable: RuntimeError" == classify(RuntimeError(SECRET)).detail

    def test_nonsense_is_refused(self) -> None:
        """Where it is written, and nothing is registered."""
        with pytest.raises(ValueError, match=re.escape("register('(')")):
            register("(", category=Category.EXTERNAL)

    def test_it_goes_before_what_is_remembered(self) -> None:
        """A rule that comes later holds for what was seen before."""
        exc = psycopg.errors.DeadlockDetected("x")
        assert "conflict.transaction" == classify(exc).code
        unregister = register("Deadlock", category=Category.EXTERNAL)
        assert "external.unavailable" == classify(exc).code
        unregister()
        assert "conflict.transaction" == classify(exc).code


class Hostile(Exception):
    """An exception whose every attribute raises."""

    @property
    def response(self) -> None:
        """Raise."""
        raise RuntimeError(SECRET)

    sqlstate = pgcode = sqlite_errorname = status_code = body = request_info = response


@pytest.mark.parametrize(
    "name",
    [
        "starlette.exceptions.HTTPException",
        "httpx.HTTPStatusError",
        "sqlite3.Error",
        "grpc.RpcError",
        "psycopg.Error",
    ],
)
def test_broken_attributes_are_no_evidence(name: str) -> None:
    """The class is left, whatever its attributes do."""
    assert classify(known(name)).code == classify(known(name, Hostile)).code


class TestMemory:
    """What was decided about one exception is remembered for those that say the same, and for no others."""

    @pytest.mark.parametrize(
        ("name", "one", "other"),
        [
            ("sqlite3.Error", {"sqlite_errorname": "SQLITE_BUSY"}, {"sqlite_errorname": "SQLITE_FULL"}),
            ("urllib.error.HTTPError", {"code": 404}, {"code": 500}),
            ("httpx.ReadTimeout", {"request": REQUEST, "response": answer(500)}, {"request": REQUEST}),
            (
                "httpx.HTTPStatusError",
                {"request": REQUEST, "response": answer(500), "body": {}},
                {
                    "request": REQUEST,
                    "response": answer(500, headers={"x-should-retry": "false"}),
                    "body": {},
                },
            ),
        ],
        ids=["sqlite", "urllib", "response", "x-should-retry"],
    )
    def test_two_that_differ_are_told_apart(
        self, name: str, one: dict[str, Any], other: dict[str, Any]
    ) -> None:
        """Of one class, in either order."""
        cls: Any = type(known(name, OSError))
        failures = [cls("x"), cls("x")]
        vars(failures[0]).update(one)
        vars(failures[1]).update(other)
        expected = []
        for exc in failures:
            CACHE.clear()
            expected.append(classify(exc))
        assert expected[0] != expected[1]
        assert expected == [classify(exc) for exc in failures]
        assert expected == [classify(exc) for exc in failures]
        CACHE.clear()
        assert expected[::-1] == [classify(exc) for exc in reversed(failures)]

    def test_attributes_of_a_bare_oserror_say_more_than_its_errno(self) -> None:
        """The class is the same, and only one of them was given a response."""
        bare, given = OSError(28, "x"), OSError(28, "x")
        given.response = answer(500)  # type: ignore[attr-defined]
        for _ in range(2):
            codes = [classify(exc).code for exc in (bare, given)]
            assert ["internal.resource", "external.server_error"] == codes

    def test_the_host_of_a_wrapper_is_not_kept_for_its_cause(self) -> None:
        """The next one of that cause failed somewhere else."""
        wrapper = known("sdk.Error", request=REQUEST)
        wrapper.__cause__ = OSError(28, "x")
        assert classify(wrapper).detail.endswith("OSError, ENOSPC, api.example")
        assert classify(OSError(28, "x")).detail.endswith("OSError, ENOSPC")

    def test_it_is_bounded(self) -> None:
        """Hosts and names without end do not fill the memory."""
        for number in range(600):
            request = httpx.Request("GET", f"https://host-{number}.example")
            classify(httpx.ReadTimeout("x", request=request))
            with dependency(f"tenant-{number}"):
                classify(KeyError())
        assert len(CACHE[httpx.ReadTimeout].told) <= 256
        assert len(CACHE[KeyError].scoped) <= 256


STATUSES = st.sampled_from([200, 400, 404, 429, 503])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), STATUSES, st.text(), st.floats())
VALUES = st.one_of(
    SCALARS,
    st.binary(),
    st.lists(SCALARS),
    st.dictionaries(st.sampled_from(["code", "type", "error", "Error", "Code"]), SCALARS),
    st.builds(object),
    st.builds(lambda status: SimpleNamespace(status_code=status, headers=[]), SCALARS),
)
NAMES = [
    *("somebody.Error", "starlette.exceptions.HTTPException", "openai.APIStatusError", "grpc.RpcError"),
    *("botocore.exceptions.ClientError", "psycopg.OperationalError", "sqlite3.OperationalError"),
    *("werkzeug.exceptions.HTTPException", "aiohttp.client_exceptions.ClientResponseError"),
    *("httpx.HTTPStatusError", "httpx.ReadTimeout"),
]
ATTRIBUTES = [
    *("response", "sqlstate", "pgcode", "sqlite_errorname", "status_code", "status", "code", "body", "errno"),
    *("request", "request_info", "headers", "history", "retry_after", "wait"),
]
MAKERS = [*(type(known(name)) for name in NAMES), lambda text: OSError(28, text), TimeoutError]
CARRIED = st.tuples(st.sampled_from(MAKERS), st.dictionaries(st.sampled_from(ATTRIBUTES), VALUES))


@given(st.lists(CARRIED, max_size=6))
def test_whatever_an_exception_carries_there_is_one_decision(carried: list[Any]) -> None:
    """Nothing raises, no text is shown, and what was decided before changes nothing."""
    failures = []
    for make, attributes in carried:
        exc = make(SECRET)
        vars(exc).update(attributes)
        failures.append(exc)
    alone = []
    for exc in failures:
        CACHE.clear()
        alone.append(classify(exc))
        assert request_of(exc) is None or isinstance(request_of(exc), tuple)
    CACHE.clear()

    assert alone == [classify(exc) for exc in failures]
    assert alone == [classify(exc) for exc in failures]
    assert not [found for found in alone if SECRET in found.detail]
    with dependency("kommo"):
        scoped = [classify(exc) for exc in failures]
        assert scoped == [classify(exc) for exc in failures]


def test_every_verdict_of_the_tables_of_codes_exists() -> None:
    """No code of a service leads nowhere."""
    assert set(VERDICTS) >= {*AWS.values(), *GRPC.values(), *MODELS.values(), *dict(LIBPQ).values()}
