"""The tables against the real libraries, and against a labelled corpus: run by ``nox -s catalogue``.

A plain ``pytest`` does not collect this file, for it needs every library that the tables know. A library that
is missing fails the tests; nothing is skipped.
"""

import builtins
import errno
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from tests.errors.corpus import CORPUS

from resilient_agents.errors import Advice, Failure, classify
from resilient_agents.errors.knowledge import CACHE
from resilient_agents.errors.names import DECISIVE, INNER, NAMES, STATUS, TO_OUR_CALLER

REQUEST_URL = "https://api.example/v1/things"
MODULES = [
    *("aiohttp.client_exceptions", "anthropic", "asyncpg.exceptions", "botocore.exceptions"),
    *("django.core.exceptions", "fastapi.exceptions", "grpc", "grpc.aio", "http.client", "httpx", "httpx2"),
    *("litestar.exceptions", "msgspec", "openai", "orjson", "psycopg", "psycopg.errors", "psycopg2"),
    *("psycopg2.errors", "psycopg2.extensions", "psycopg2.pool", "psycopg_pool", "pydantic"),
    *("pydantic_core", "pydantic_settings", "redis.exceptions", "requests.exceptions"),
    *("rest_framework.exceptions", "sqlalchemy.exc", "sqlalchemy.orm.exc", "sqlite3"),
    *("starlette.exceptions", "starlette.requests", "starlette.websockets", "tenacity", "urllib.error"),
    *("urllib3.exceptions", "werkzeug.exceptions"),
]
"""Where the libraries keep the exceptions that their users see."""


@pytest.fixture(scope="module", autouse=True)
def configured() -> None:
    """Give Django the settings without which its modules cannot be imported."""
    settings = importlib.import_module("django.conf").settings
    if not settings.configured:
        settings.configure()


def load(name: str) -> Any:
    """Import what has the dotted *name*; a name without dots is a builtin."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module) if module else builtins, attribute)


def qualified(cls: type) -> str:
    """Return the name by which the tables know a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def bare(cls: Any) -> Exception:
    """Return an instance of *cls* that carries nothing."""
    compiled: dict[str, Callable[[], Exception]] = {
        "ValidationError": lambda: cls.from_exception_data("Lead", []),
        "SchemaError": lambda: cls("x"),
    }
    if cls.__module__ == "pydantic_core._pydantic_core" and cls.__name__ in compiled:
        return compiled[cls.__name__]()
    exc: Exception = cls.__new__(cls)
    return exc


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_named_class_exists_and_maps_as_the_table_says(name: str) -> None:
    """Each name is that of a real class, spelt as its library spells it, and leads to its code."""
    cls = load(name)

    assert issubclass(cls, Exception)
    assert name == qualified(cls)
    assert NAMES[name] == classify(bare(cls)).code


@pytest.mark.parametrize("name", sorted({*INNER, *STATUS}))
def test_a_class_that_is_read_in_its_own_way_exists(name: str) -> None:
    """Wrappers, and carriers of an HTTP status, are spelt as their libraries spell them."""
    assert name == qualified(load(name))


def test_what_is_said_of_a_class_is_said_of_one_that_is_known() -> None:
    """Classes that overrule their status are named, and refusals of ours carry a status."""
    assert set(NAMES) >= DECISIVE
    assert set(STATUS) >= TO_OUR_CALLER


@pytest.mark.parametrize("module", MODULES)
def test_every_exception_of_a_library_leads_somewhere(module: str) -> None:
    """A new version of a library cannot bring an exception that goes unnoticed."""
    members = [*vars(importlib.import_module(module)).values()]
    classes = [cls for cls in members if inspect.isclass(cls) and issubclass(cls, Exception)]

    assert classes
    assert set() == {
        qualified(cls)
        for cls in classes
        if cls is not Exception and not any(qualified(base) in NAMES for base in cls.__mro__)
    }


def answered(client: str, status: int, **body: Any) -> Any:
    """Return a response of *client* to a POST."""
    module = importlib.import_module(client)
    return module.Response(status, request=module.Request("POST", REQUEST_URL), **body)


def by_httpx(status: str) -> Exception:
    """Return what httpx raises for a status."""
    with pytest.raises(Exception, match=status) as raised:
        answered("httpx", int(status)).raise_for_status()
    return raised.value


def by_requests(status: str) -> Exception:
    """Return what requests raises for a status."""
    response = load("requests.Response")()
    response.status_code = int(status)
    with pytest.raises(Exception, match=status) as raised:
        response.raise_for_status()
    return raised.value


def by_aiohttp(status: str) -> Exception:
    """Return what aiohttp raises for a status."""
    url = load("yarl.URL")(REQUEST_URL)
    info = load("aiohttp.RequestInfo")(url, "POST", {}, url)
    exc: Exception = load("aiohttp.ClientResponseError")(info, (), status=int(status))
    return exc


def by_urllib(status: str) -> Exception:
    """Return what urllib raises for a status."""
    exc: Exception = load("urllib.error.HTTPError")(REQUEST_URL, int(status), "x", None, None)
    return exc


def by_sdk(name: str, status: int, code: str) -> Exception:
    """Return what the client of a language model raises for a refusal."""
    error = {"code": code, "type": "invalid_request_error", "details": {"error_code": code}}
    response = answered("httpx2", status, json={"type": "error", "error": error})
    client = load({"openai": "openai.OpenAI", "anthropic": "anthropic.Anthropic"}[name])(api_key="none")
    exc: Exception = client._make_status_error_from_response(response)
    assert exc.__class__.__module__ == name
    return exc


def by_sqlite(name: str) -> Exception:
    """Return an exception of SQLite with its error name."""
    kind = "IntegrityError" if "CONSTRAINT" in name else "OperationalError"
    exc: Any = load(f"sqlite3.{kind}")("x")
    exc.sqlite_errorname = name
    raised: Exception = exc
    return raised


def by_grpc(name: str) -> Exception:
    """Return what grpc raises for a status."""
    metadata = load("grpc.aio.Metadata")()
    exc: Exception = load("grpc.aio.AioRpcError")(load("grpc.StatusCode")[name], metadata, metadata)
    return exc


def by_aws(code: str) -> Exception:
    """Return what botocore raises for an error code; the status beside it says less."""
    refusal = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    exc: Exception = load("botocore.exceptions.ClientError")(refusal, "PutItem")
    return exc


KINDS: dict[str, tuple[Callable[[str], Exception], ...]] = {
    "aws": (by_aws,),
    "anthropic": (lambda value: by_sdk("anthropic", int(value[:3]), value[4:]),),
    "errno": (lambda name: OSError(getattr(errno, name), "x"),),
    "grpc": (by_grpc,),
    "http": (by_httpx, by_requests, by_aiohttp, by_urllib),
    "openai": (lambda value: by_sdk("openai", int(value[:3]), value[4:]),),
    "sqlite": (by_sqlite,),
    "starlette": (lambda status: load("starlette.exceptions.HTTPException")(int(status)),),
}


def constructed(cls: Any) -> Exception:
    """Return an instance of *cls*, with its response where its library never raises it without one."""
    if not any(base.__name__ == "APIStatusError" for base in cls.__mro__):
        return bare(cls)
    response = answered("httpx2", getattr(cls, "status_code", 500))
    words = () if cls.__name__ == "OAuthError" else ("x",)
    exc: Exception = cls(*words, response=response, body=None)
    return exc


def made(failure: str) -> tuple[Exception, ...]:
    """Return the exceptions that a label is about, as their libraries raise them."""
    kind, colon, value = failure.partition(":")
    if colon:
        return tuple(make(value) for make in KINDS[kind])
    return (constructed(load(failure)),)


def test_what_is_remembered_is_what_would_be_decided() -> None:
    """The decision about one failure is no other after those about all others."""
    failures = [exc for label in CORPUS for exc in made(label.failure)]
    alone = []
    for exc in failures:
        CACHE.clear()
        alone.append(classify(exc))
    CACHE.clear()

    assert alone == [classify(exc) for exc in failures]
    assert alone == [classify(exc) for exc in failures]
    assert alone[::-1] == [classify(exc) for exc in failures[::-1]]


AGAIN = {Advice.SAFE: "safe", Advice.IDEMPOTENT: "idem", Advice.AFTER: "after"}
WORDS = {**AGAIN, Advice.NEVER: "no", Advice.TRANSACTION: "tx"}


def test_decisions_agree_with_a_persons(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the corpus, 97 % are repeated or not as a person would, and 95 % get the HTTP status."""
    decided: list[tuple[str, Failure, int, str]] = [
        (label.failure, classify(exc), label.status, label.retry)
        for label in CORPUS
        for exc in made(label.failure)
    ]
    others = {
        "retry": [row for row in decided if (row[1].advice in AGAIN) != (row[3] in AGAIN.values())],
        "status": [row for row in decided if row[1].status != row[2]],
        "advice": [row for row in decided if WORDS[row[1].advice] != row[3]],
    }
    right = {question: 1 - len(rows) / len(decided) for question, rows in others.items()}
    report = [f"{len(CORPUS)} labels, {len(decided)} failures"]
    for question, rows in others.items():
        report.append(f"{question} right: {right[question]:.1%}")
        report += [
            f"    {name}: {status} {retry}, not {found.status} {WORDS[found.advice]} ({found.code})"
            for name, found, status, retry in rows
        ]
    with capsys.disabled():
        print("", *report, sep="\n")  # noqa: T201

    assert len(CORPUS) > 290
    assert right["retry"] >= 0.97
    assert right["status"] >= 0.95
