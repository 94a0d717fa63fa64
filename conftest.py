"""What every test stands on: process-wide state is put back, and the documentation is executed."""

import ast
import asyncio
import gc
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from doctest import ELLIPSIS
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

from resilient_agents.errors import knowledge
from resilient_agents.events import bus
from resilient_agents.policies import set_active

if TYPE_CHECKING:
    from tests.policies.redis_server import Server as RedisServer
    from tests.servers import PostgresServer

SOURCE = Path(__file__).parent / "src"

# How long an example takes says something about the machine, not about the property.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the crash tests run as long as one likes."""
    parser.addoption(
        "--crash-kills",
        type=int,
        default=6,
        help="how often a crash test kills its process. The default is %(default)s.",
    )
    parser.addoption(
        "--outage",
        type=float,
        default=1.5,
        help="for how many seconds a server is away under load. The default is %(default)s.",
    )


REAL_FOLDERS = {"cli", "crash", "fake_kommo", "migrations"}
REAL_FILES = {
    "test_actions_example",
    "test_activity_delivery",
    "test_activity_feed",
    "test_activity_files",
    "test_activity_log",
    "test_activity_losses",
    "test_activity_outages",
    "test_activity_sinks",
    "test_activity_soak",
    "test_activity_stream",
    "test_benchmarks",
    "test_cache_across_processes",
    "test_cache_benchmark",
    "test_cache_chaos",
    "test_cache_processes",
    "test_cache_two_tiers",
    "test_celery_worker",
    "test_critical_actions",
    "test_crm_transport",
    "test_delivery",
    "test_examples",
    "test_fastapi_contract",
    "test_fastapi_example",
    "test_feed_doors",
    "test_flask_app",
    "test_import_cost",
    "test_kommo_client",
    "test_kommo_outages",
    "test_life",
    "test_log_writing",
    "test_one_request",
    "test_plain_worker",
    "test_postgres_feed",
    "test_protect",
    "test_queue",
    "test_real_failures",
    "test_redis",
    "test_redis_cluster",
    "test_redis_outage",
    "test_redis_sentinel",
    "test_redis_state",
    "test_redis_store",
    "test_redis_tls",
    "test_replayer",
    "test_sentry_fork",
    "test_storage_faults",
    "test_taskiq_redis",
    "test_writer",
}
"""Tests that work on real files, sockets or processes; all others are unit tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of real things, so that ``-m "not real"`` runs the quick ones alone."""
    for item in items:
        if item.path.parent.name in REAL_FOLDERS or item.path.stem in REAL_FILES:
            item.add_marker("real")


def pytest_collection_finish() -> None:
    """Take what lives as long as the run out of the garbage collector's sight: tests ask it for theirs."""
    gc.collect()
    gc.freeze()


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Read the docstrings under src without importing src: the installed package is what is tested."""
    return pytest.Dir.from_parent(parent, path=path) if SOURCE in path.parents else None


def forget_others_settings() -> None:
    """Undo what other libraries remember for the whole process, where they are loaded."""
    if structlog := sys.modules.get("structlog"):
        structlog.reset_defaults()
    if celery := sys.modules.get("celery._state"):  # each application is given the tasks of all earlier ones
        finalizers = celery._on_app_finalizers
        finalizers.difference_update({one for one in finalizers if one.__module__ == "celery.app.base"})


@contextmanager
def process_state_restored() -> Iterator[None]:
    """Put back what a test or an example may have changed for the whole process."""
    subscribers, rules = bus._subscribers, knowledge._rules
    with set_active(True):
        yield
    forget_others_settings()
    bus._subscribers, knowledge._rules = subscribers, rules
    for cache in (bus._wanted, bus._broken, knowledge.CACHE):
        cache.clear()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests under asyncio, once."""
    return "asyncio"


@pytest.fixture(autouse=True)
def pristine() -> Iterator[None]:
    """Undo process-wide changes after each test."""
    with process_state_restored():
        yield


@pytest.fixture(scope="session")
def postgres_server() -> "Iterator[PostgresServer]":
    """Run one PostgreSQL for all tests that want one."""
    from tests.servers import PostgresServer

    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
def postgres_url(postgres_server: "PostgresServer") -> Iterator[str]:
    """Return the URL of an empty database of the test's own."""
    name = postgres_server.create_database()
    yield postgres_server.url_of(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[RedisServer]":
    """Run one Redis for all tests that want one."""
    from tests.policies.redis_server import running

    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: "RedisServer") -> str:
    """Return the URL of an empty Redis."""
    redis_server.client.flushall()
    return redis_server.url


@pytest.fixture
def modules_loaded_by() -> Callable[[str], set[str]]:
    """Return a function that tells which modules a statement loads in a fresh interpreter."""

    def look(statement: str) -> set[str]:
        code = f"import sys; b = {{*sys.modules}}\n{statement}\nprint(*{{*sys.modules}} - b)"
        unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        child = subprocess.run(
            [sys.executable, "-I", "-c", code], check=True, stdout=subprocess.PIPE, text=True, env=unmeasured
        )
        return set(child.stdout.split())

    return look


@pytest.fixture(scope="module")
def document_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Execute each document in an empty folder of its own."""
    folder = tmp_path_factory.mktemp("document")
    with chdir(folder), process_state_restored():
        yield folder


def run_block(example: Example) -> None:
    """Execute a code block, which may await at its top level as in ``python -m asyncio``."""
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    code = compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    example.namespace.setdefault("__name__", "__main__")  # functions want to have a module
    outcome = eval(code, example.namespace)
    if inspect.iscoroutine(outcome):
        asyncio.run(outcome)


python_blocks = PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)
python_blocks.codeblock_parser = CodeBlockParser("python", run_block)

pytest_collect_file = (
    Sybil([python_blocks, SkipParser()], patterns=["README.md", "docs/*.md"], fixtures=["document_folder"])
    + Sybil([DocTestParser(ELLIPSIS)], path="src", pattern="*.py", fixtures=["document_folder"])
).pytest()
