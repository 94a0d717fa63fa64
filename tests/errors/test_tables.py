"""The tables are complete and lead nowhere that does not exist."""

import asyncio
import builtins
import errno
import http
import importlib
import inspect
import json
import socket
import sqlite3
import ssl
from collections.abc import Iterator, Mapping
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import ContentTooShortError, HTTPError

import httpx
import httpx2
import psycopg
import psycopg.errors
import psycopg_pool
import pytest
import redis.exceptions
import tenacity
from pydantic_core import ValidationError

from resilient_agents.errors import Advice, Category, Origin, classify, codes, tables
from resilient_agents.errors.names import INNER, NAMES, STATUS
from resilient_agents.errors.tables import VERDICTS

INSTALLED = {
    *("asyncio", "builtins", "concurrent", "http", "httpx", "httpx2", "json", "psycopg", "psycopg_pool"),
    *("pydantic", "pydantic_core", "redis", "socket", "sqlite3", "ssl", "tenacity", "urllib"),
}
"""Packages that are there wherever the tests run; all others are checked by ``nox -s catalogue``."""
OUR_PACKAGES = {"httpx", "httpx2", "redis", "sqlite3", "psycopg", "psycopg_pool", "builtins", "ssl", "socket"}
TABLES: dict[str, Mapping[Any, str]] = {
    "DEFAULTS": tables.DEFAULTS,
    "SEEN_FROM": tables.SEEN_FROM,
    "DEPENDENCY_STATUS": tables.DEPENDENCY_STATUS,
    "INBOUND_STATUS": tables.INBOUND_STATUS,
    "ERRNO": tables.ERRNO,
    "SQLITE": tables.SQLITE,
    "SQLSTATE": tables.SQLSTATE,
    "NAMES": NAMES,
    "GRPC": codes.GRPC,
    "AWS": codes.AWS,
    "MODELS": codes.MODELS,
    "LIBPQ": dict(codes.LIBPQ),
}
STATUSES = sorted(status.value for status in http.HTTPStatus if status >= 400)


def load(name: str) -> type[Exception]:
    """Import the class with the qualified *name*."""
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    assert isinstance(found, type)
    assert issubclass(found, Exception)
    return found


def raised(cls: type[Exception]) -> Exception:
    """Return an instance of *cls* that was really raised."""
    try:
        raise instance(cls)
    except Exception as exc:
        return exc


def instance(cls: type[Exception]) -> Exception:
    """Return an instance of *cls*, whatever its arguments."""
    special: dict[type[Exception], tuple[object, ...]] = {
        asyncio.IncompleteReadError: (b"", 4),
        asyncio.LimitOverrunError: ("too long", 4),
        json.JSONDecodeError: ("bad", "{", 0),
        UnicodeDecodeError: ("utf-8", b"\xff", 0, 1, "bad"),
        UnicodeEncodeError: ("ascii", "é", 0, 1, "bad"),
        UnicodeTranslateError: ("é", 0, 1, "bad"),
        ContentTooShortError: ("x", (b"", None)),
        HTTPError: ("https://acme.example", 302, "x", Message(), None),
        redis.exceptions.AskError: ("1 127.0.0.1:7000",),
        redis.exceptions.MovedError: ("1 127.0.0.1:7000",),
        redis.exceptions.ClusterDownError: ("down",),
        redis.exceptions.MasterDownError: ("down",),
        httpx.HTTPStatusError: ("x",),
        httpx2.HTTPStatusError: ("x",),
        tenacity.RetryError: (tenacity.Future.construct(1, "a result", has_exception=False),),
    }
    if cls is ValidationError:
        return ValidationError.from_exception_data("Lead", [])
    arguments = special.get(cls, ("x",))
    keywords = {"request": None, "response": None} if cls.__name__ == "HTTPStatusError" else {}
    signature = {
        "httpx.StreamConsumed",
        "httpx.StreamClosed",
        "httpx.ResponseNotRead",
        "httpx.RequestNotRead",
    }
    if f"httpx.{cls.__name__}" in signature:
        arguments = ()
    return cls(*arguments, **keywords)


def classes_in(module: ModuleType) -> Iterator[type[Exception]]:
    """Yield the public exception classes of *module*."""
    for name, member in vars(module).items():
        if not name.startswith("_") and inspect.isclass(member) and issubclass(member, Exception):
            yield member


def test_every_code_in_a_table_has_a_verdict() -> None:
    """No table leads to a code that nobody has explained."""
    for name, table in TABLES.items():
        assert set() == set(table.values()) - set(VERDICTS), name
    assert tables.UNEXPECTED in VERDICTS
    assert tables.VAGUE <= set(VERDICTS)


def test_every_verdict_is_reached_by_a_table() -> None:
    """No verdict is dead."""
    reached = {code for table in TABLES.values() for code in table.values()}
    assert set() == set(VERDICTS) - reached


def test_a_verdict_is_consistent() -> None:
    """A code begins with its category, its status is an HTTP status, its title a short sentence."""
    for code, verdict in VERDICTS.items():
        assert code == verdict.code
        assert code.partition(".")[0] == verdict.category
        assert http.HTTPStatus(verdict.status) >= 400
        assert 0 < len(verdict.title) <= 50


def test_a_dependency_never_makes_our_caller_log_in() -> None:
    """Their refusal of our credentials is not our caller's 401 or 403."""
    for verdict in VERDICTS.values():
        if verdict.origin is not Origin.INBOUND:
            assert verdict.status not in {400, 401, 403, 429}


def test_the_documentation_lists_every_verdict() -> None:
    """The page about errors shows each code with what follows from it."""
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    for verdict in VERDICTS.values():
        row = [
            f"`{verdict.code}`",
            verdict.origin,
            str(verdict.status),
            verdict.advice,
            verdict.level,
            verdict.title,
        ]
        assert f"| {' | '.join(row)} |" in page


def test_each_category_has_a_default() -> None:
    """Where only the category is known, there is a verdict of that category."""
    assert set(Category) == set(tables.DEFAULTS)
    for category, code in tables.DEFAULTS.items():
        assert category is VERDICTS[code].category


@pytest.mark.parametrize("status", [*STATUSES, 520, 521, 522, 523, 524, 525, 526, 529, 530, 598])
def test_every_registered_status_of_a_dependency_has_a_code(status: int) -> None:
    """An HTTP status of a dependency is never a surprise."""
    assert VERDICTS[tables.DEPENDENCY_STATUS[status]].origin is Origin.DEPENDENCY


@pytest.mark.parametrize("status", STATUSES)
def test_every_registered_status_towards_our_caller_has_a_code(status: int) -> None:
    """An HTTP status with which we refuse somebody is never a surprise."""
    verdict = VERDICTS[tables.INBOUND_STATUS[status]]
    assert (verdict.origin is Origin.INBOUND) == (status < 500 or status in {505, 510, 511})


def test_errnos_exist_on_this_system() -> None:
    """Every errno is spelt as the system spells it."""
    missing = {name for name in tables.ERRNO if not hasattr(errno, name)}
    assert missing <= {"EDQUOT", "EHOSTDOWN"}


def test_every_primary_result_code_of_sqlite_is_known() -> None:
    """An SQLite failure is never a surprise; extended codes fall back on these."""
    primary = {
        name
        for name, value in vars(sqlite3).items()
        if name.startswith("SQLITE_") and value in range(1, 27) and name.count("_") == 1
    }
    others = "DENY IGNORE CREATE_INDEX DELETE INSERT PRAGMA READ SELECT TRANSACTION UPDATE ATTACH DETACH"
    actions = {f"SQLITE_{name}" for name in others.split()}
    assert {"SQLITE_BUSY", "SQLITE_FULL", "SQLITE_NOTADB"} <= primary
    unknown = {name for name in primary - actions if name not in tables.SQLITE}
    assert {name for name in unknown if not name.startswith("SQLITE_LIMIT")} == set()


def test_every_sqlstate_that_psycopg_knows_is_known() -> None:
    """Each SQLSTATE class of PostgreSQL leads to a code."""
    states = {getattr(cls, "sqlstate", None) or "" for cls in classes_in(psycopg.errors)} - {""}
    assert len(states) > 200
    assert set() == {state[:2] for state in states} - set(tables.SQLSTATE)


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.partition(".")[0] in INSTALLED))
def test_a_named_class_exists_and_means_what_the_table_says(name: str) -> None:
    """Each name is that of a real class, and an instance that is raised leads to its code."""
    cls = load(name)
    assert name == f"{cls.__module__}.{cls.__qualname__}"
    assert NAMES[name] == classify(raised(cls)).code


def test_named_wrappers_exist() -> None:
    """Wrappers of installed packages are spelt as the packages spell them."""
    for name in (*INNER, *STATUS):
        if name.partition(".")[0] in INSTALLED:
            assert name == f"{load(name).__module__}.{load(name).__qualname__}"


@pytest.mark.parametrize(
    "module", [httpx, httpx2, redis.exceptions, sqlite3, psycopg, psycopg_pool, ssl, socket]
)
def test_every_public_exception_of_a_known_package_is_named(module: ModuleType) -> None:
    """A new version of a package cannot bring an exception that goes unnoticed."""
    own = [cls for cls in classes_in(module) if cls.__module__.partition(".")[0] in OUR_PACKAGES]
    assert own
    assert [] == [cls for cls in own if f"{cls.__module__}.{cls.__qualname__}" not in NAMES]


def test_every_exception_of_asyncio_leads_somewhere() -> None:
    """What asyncio raises is never unexpected, in any version of Python."""
    classes = [cls for cls in classes_in(asyncio) if cls.__name__ != "QueueShutDown"]
    assert len(classes) > 5
    for cls in classes:
        assert tables.UNEXPECTED != classify(raised(cls)).code


def test_every_postgresql_exception_leads_somewhere() -> None:
    """Each class of psycopg.errors is judged by its SQLSTATE, else by its name."""
    classes = list(classes_in(psycopg.errors))
    assert len(classes) > 200
    for cls in classes:
        found = classify(cls("x"))
        state = getattr(cls, "sqlstate", None)
        expected = (tables.SQLSTATE.get(state) or tables.SQLSTATE[state[:2]]) if state else found.code
        assert expected == found.code
        assert tables.UNEXPECTED != found.code


def test_every_builtin_exception_leads_somewhere() -> None:
    """No exception of Python itself is unexpected, except the bare base of all."""
    classes = [cls for cls in classes_in(builtins) if not issubclass(cls, BaseExceptionGroup)]
    assert len(classes) > 50
    unexpected = {cls for cls in classes if classify(raised(cls)).code == tables.UNEXPECTED}
    assert {Exception} == unexpected


SAFE, IDEMPOTENT, NEVER, AFTER = Advice.SAFE, Advice.IDEMPOTENT, Advice.NEVER, Advice.AFTER
JUDGED = (
    ("external.connect external.dns external.pool", SAFE, 503),
    ("external.timeout_connect", SAFE, 504),
    ("external.timeout", IDEMPOTENT, 504),
    ("external.reset external.protocol external.bad_body external.server_error", IDEMPOTENT, 502),
    ("external.unavailable external.locked external.read_only", IDEMPOTENT, 503),
    ("external.overloaded rate_limit.throttled", AFTER, 503),
    ("rate_limit.exceeded", AFTER, 429),
    ("external.tls validation.rejected auth.rejected", NEVER, 502),
    ("external.full rate_limit.quota internal.resource", NEVER, 503),
    ("conflict.transaction", Advice.TRANSACTION, 409),
    ("conflict.unique conflict.dependency conflict.state", NEVER, 409),
    ("validation.data validation.constraint validation.invalid", NEVER, 422),
    ("internal.bug internal.data internal.query internal.configuration internal.unexpected", NEVER, 500),
)


@pytest.mark.parametrize(("codes", "advice", "status"), JUDGED)
def test_what_may_be_repeated_and_what_is_answered(codes: str, advice: Advice, status: int) -> None:
    """Safe is what was provably not sent; what may have run needs idempotence; a refusal never passes."""
    for code in codes.split():
        assert (advice, status) == (VERDICTS[code].advice, VERDICTS[code].status), code
