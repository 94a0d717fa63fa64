"""Log lines: what is in them, whatever is logged; nothing raises into who logs, and nothing is lost."""

import asyncio
import io
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import structlog
from flask import Flask
from uvicorn import Config

from resilient_agents import correlation
from resilient_agents._clock import timestamp
from resilient_agents.errors import Unreachable
from resilient_agents.errors.handling import handle_errors
from resilient_agents.integrations import structlog as logs
from resilient_agents.integrations.flask import install
from resilient_agents.testing import FakeClock

MOMENT = datetime(2026, 11, 25, 8, 31, 44, 123456, tzinfo=UTC).timestamp()
ROOT = logging.getLogger()
Written = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def clock() -> Iterator[FakeClock]:
    """The time does not move."""
    with FakeClock() as clock:
        clock.advance(0.1234)
        yield clock


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else listens to `logging`: the handlers of pytest raise on some of what is logged here."""
    handlers, ROOT.handlers[:] = ROOT.handlers[:], []
    try:
        yield
    finally:
        ROOT.handlers[:] = handlers


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Each test puts back what it configured."""
    yield
    assert not structlog.is_configured()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Lines of the service are written here."""
    stream = io.StringIO()
    stop = logs.configure("chat", stream=stream)
    structlog.contextvars.clear_contextvars()
    yield stream
    structlog.contextvars.clear_contextvars()
    stop()


@pytest.fixture
def written(stream: io.StringIO) -> Written:
    """Return a function that reads what was written."""

    def read() -> list[dict[str, Any]]:
        def refuse(constant: str) -> None:
            raise AssertionError(constant)

        return [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]

    return read


HEAD = {"timestamp": "2026-01-01T00:00:00.123Z", "level": "info", "service": "chat", "logger": "app"}


def test_a_line(written: Written) -> None:
    """A line begins with the same keys, and keeps what the caller gave."""
    structlog.get_logger("app").info("lead_created", lead=12, tags=["new"])

    assert [
        {**HEAD, "message": "lead_created", "event": "lead_created", "lead": 12, "tags": ["new"]}
    ] == written()
    assert ["timestamp", "level", "service", "logger", "message", "event", "lead", "tags"] == [*written()[0]]


def test_a_line_of_logging_is_the_same(written: Written) -> None:
    """Records of the standard library have the same form; the event is the text before it was filled in."""
    logging.getLogger("app").info("lead %d for %s", 12, "acme", extra={"lead": 12, "job_id": "j"})

    assert [
        {
            **HEAD,
            "timestamp": written()[0]["timestamp"],
            "message": "lead 12 for acme",
            "event": "lead %d for %s",
            "lead": 12,
            "jobId": "j",
        }
    ] == written()


def test_what_the_context_knows(written: Written) -> None:
    """The correlation and structlog's context variables are on each line, under the names of the service."""
    log = structlog.get_logger("app")
    with (
        correlation.bind(request_id="r-1", job_id=5, job_name="sync", organization_id="o", agent_id="a"),  # type: ignore[arg-type]
        structlog.contextvars.bound_contextvars(organization_id="other", region="eu"),
    ):
        log.info("inside", agent_id="given")
        logging.getLogger("app").warning("inside")
    log.info("outside")

    known = {"requestId": "r-1", "jobId": "5", "jobName": "sync", "orgId": "o", "agentId": "a"}
    first, second, third = written()
    assert {**known, "orgId": "other", "agentId": "given", "region": "eu"} == {
        key: first[key] for key in [*known, "region"]
    }
    assert known == {key: second[key] for key in known}
    assert not {*known, "region"} & {*third}


def test_levels(written: Written) -> None:
    """Each method has its level, and what is below the least one is not written."""
    log = structlog.get_logger("app")
    for name in ("debug", "info", "msg", "warn", "warning", "error", "fatal", "critical"):
        getattr(log, name)(name)
    log.log(logging.ERROR, "log")
    log.log(logging.DEBUG, "log")
    logging.getLogger("app").debug("debug")
    logging.getLogger("app").log(45, "between")

    assert [
        *("info", "info", "warning", "warning", "error", "critical", "critical", "error", "error"),
    ] == [line["level"] for line in written()]
    assert log.is_enabled_for(logging.INFO)
    assert not log.is_enabled_for(logging.DEBUG)
    assert logging.INFO == log.get_effective_level()


async def test_the_awaiting_methods(written: Written) -> None:
    """They write the same lines, at once."""
    log = structlog.get_logger("app")
    await log.ainfo("one", n=1)
    await log.alog(logging.ERROR, "two")
    try:
        raise Unreachable("crm.test is down")
    except Unreachable:
        await log.aexception("three")

    assert [("info", "one"), ("error", "two"), ("error", "three")] == [
        (line["level"], line["event"]) for line in written()
    ]
    assert "external.unreachable" == written()[2]["code"]


def test_an_exception(written: Written) -> None:
    """A traceback has the decision beside it, the causes first; neither a variable nor a secret."""

    def inner(password: str) -> None:
        raise ValueError(f"postgresql://crm:{password}@db/crm")

    try:
        try:
            inner("hunter2")
        except ValueError as exc:
            exc.add_note("api_key=hunter2")
            raise Unreachable("crm.test is down") from exc
    except Unreachable as exc:
        structlog.get_logger("app").exception("failed")
        structlog.get_logger("app").error("failed", exc_info=exc)
        structlog.get_logger("app").error("failed", exc_info=(type(exc), exc, None))
        logging.getLogger("app").exception("failed")

    for line in written():
        assert ("error", "external.unreachable", "external") == (
            line["level"],
            line["code"],
            line["category"],
        )
        first, second = line["exception"].split("\n\nThis led to:\n\n")
        assert first.endswith("ValueError: postgresql://***@db/crm\napi_key=***")
        assert second.endswith("resilient_agents.errors.exceptions.Unreachable: crm.test is down")
        assert ", in inner\n    raise ValueError(f" in first
        assert "hunter2" not in json.dumps(line).replace('inner(\\"hunter2\\")', "")
    assert 4 == len(written())


def test_exceptions_that_are_hard_to_tell(written: Written) -> None:
    """A cycle of causes, an exception that cannot be shown, a group, one that is not an Exception."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    log = structlog.get_logger("app")
    for exc in (one, Mute(), ExceptionGroup("many", [one, two]), KeyboardInterrupt()):
        log.error("failed", exc_info=exc)
    log.error("failed", exc_info=False)
    log.error("failed", exc_info=True)  # noqa: LOG014

    told = [line.get("exception") for line in written()]
    name = f"{__name__}.{test_exceptions_that_are_hard_to_tell.__name__}.<locals>.Mute"
    assert [
        "ValueError: two\n\nThis led to:\n\nValueError: one",
        f"{name}: <an exception that cannot be shown>",
        "ExceptionGroup: many (2 sub-exceptions)\n  | ValueError: one\n  | ValueError: two",
        "KeyboardInterrupt",
        None,
        None,
    ] == told


def test_the_stack(written: Written) -> None:
    """Who asks for the stack gets it, down to the line that asked."""
    structlog.get_logger("app").info("here", stack_info=True)
    logging.getLogger("app").info("here", stack_info=True)

    for line in written():
        assert "in test_the_stack" in line["stack"]


class Raises:
    """It cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


def circular() -> dict[str, Any]:
    """Return a dictionary that holds itself."""
    made: dict[str, Any] = {}
    made["self"] = made
    return made


def deep() -> list[Any]:
    """Return a list of depth 3000."""
    made: list[Any] = []
    for _ in range(3000):
        made = [made]
    return made


HOSTILE = [
    object(),
    {1: "a"},
    {(1, 2): "a"},
    "\ud800",
    2**70,
    circular(),
    Raises(),
    math.nan,
    b"\xff\x00",
    Decimal("1.10"),
    {1, 2},
    datetime(2026, 11, 25, tzinfo=UTC),
    ValueError("wrong"),
    deep(),
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("as_json", [True, False])
def test_no_payload_raises_and_none_is_lost(value: Any, as_json: bool) -> None:
    """Each hostile value is written wherever it stands: as a field, nested, as the event, as an argument."""
    stream = io.StringIO()
    with alone():
        stop = logs.configure("chat", stream=stream, json=as_json)
        log, std = structlog.get_logger("app"), logging.getLogger("app")
        log.info("field", value=value)
        log.info("nested", value={"list": [value]}, **{"other key": value})
        log.info(value)
        log.info("n %s", value)
        log.info("n %d", value)
        log.bind(value=value).info("bound")
        log.error("failed", exc_info=value)
        std.info("n %s", value)
        std.info("n %d", value)
        std.info(value)
        std.info("extra", extra={"value": value})
        with structlog.contextvars.bound_contextvars(value=value):
            log.info("context")
        stop()

    text = stream.getvalue()
    assert 12 <= len(text.splitlines())
    assert "log_line_broken" not in text
    if as_json:
        assert 12 == len([json.loads(line) for line in text.splitlines()])
    text.encode()


def test_names_that_are_taken(written: Written) -> None:
    """A field whose name is that of the line's own, or of a parameter, is kept."""
    structlog.get_logger("app").info(
        "x", level=1, timestamp=2, service=3, logger=4, self=5, method_name=6, event="y", event_kw=7
    )

    line = written()[0]
    assert {**HEAD, "message": "x", "event": "x"} == {key: line[key] for key in [*HEAD, "message", "event"]}
    assert (1, 2, 3, 4, 5, 6, "y", 7) == tuple(
        line[key]
        for key in (
            "level_",
            "timestamp_",
            "service_",
            "logger_",
            "self",
            "method_name",
            "event_",
            "event_kw",
        )
    )


def test_the_message_may_be_given(written: Written) -> None:
    """The event is for machines, the message for people; values that do not fit the text stand beside it."""
    log = structlog.get_logger("app")
    log.info("lead_created", message="A lead was made")
    log.info("%s for %s", "lead", "acme")
    log.info("%(kind)s", {"kind": "lead"})
    log.info("%d", "lead")
    log.info(event="lead_created")
    log.info()

    assert [
        ("lead_created", "A lead was made"),
        ("%s for %s", "lead for acme"),
        ("%(kind)s", "lead"),
        ("%d", "%d"),
        ("lead_created", "lead_created"),
        ("null", "null"),
    ] == [(line["event"], line["message"]) for line in written()]
    assert ["lead"] == written()[3]["args"]


def test_a_line_is_not_endless(written: Written) -> None:
    """What is too long is cut, and the line stays valid."""
    structlog.get_logger("app").info("x" * 10**6, text=["y" * 1000] * 1000)

    (line,) = written()
    assert "info" == line["level"]
    assert len(json.dumps(line)) < 70_000


def test_a_deep_stack_can_log(written: Written) -> None:
    """A line is written even where there is hardly any stack left, or it is counted; it never raises."""
    log = structlog.get_logger("app")
    count = 0

    def dive(levels: int) -> None:
        nonlocal count
        try:
            dive(levels - 1)
        except RecursionError:
            count += 1
            if count < 60:
                log.error("too deep", exc_info=True)
            raise

    with pytest.raises(RecursionError):
        dive(10_000)
    assert written()


def test_a_record_that_raises() -> None:
    """A record that cannot be read is told of."""

    class Odd:
        def __bool__(self) -> bool:
            raise RuntimeError

    record = logging.makeLogRecord({"name": "app", "msg": "x", "levelno": 40, "exc_info": Odd()})
    stream = io.StringIO()
    with alone():
        stop = logs.configure("chat", stream=stream)
        logging.getLogger("app").handle(record)
        stop()

    line = json.loads(stream.getvalue())
    assert ("log_line_broken", "RuntimeError") == (line["event"], line["code"])


def test_a_context_that_raises(written: Written) -> None:
    """A line that cannot be made is told of."""

    class Sly(dict[str, Any]):
        def copy(self) -> Any:
            raise RuntimeError

    log = structlog.wrap_logger(None, wrapper_class=structlog.get_config()["wrapper_class"]).bind()
    log._context = Sly()
    log.info("x")

    assert [("log_line_broken", "RuntimeError")] == [(line["event"], line["code"]) for line in written()]


def test_a_terminal_gets_lines_for_people() -> None:
    """On a terminal a line is read by a person; secrets are masked there too."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    stop = logs.configure("chat", stream=stream)
    structlog.get_logger("app").warning("lead_created", password="hunter2", lead=12)
    structlog.get_logger("app").warning("lead_created", message="A lead was made")
    stop()

    text = stream.getvalue()
    assert "lead_created" in text
    assert "message" in text.splitlines()[1]
    assert "message" not in text.splitlines()[0]
    assert "hunter2" not in text
    with pytest.raises(ValueError, match=r"Expecting|Extra"):
        json.loads(text.splitlines()[0])


def test_a_stream_that_cannot_say_whether_it_is_a_terminal() -> None:
    """It gets JSON."""

    class Odd(io.StringIO):
        def isatty(self) -> bool:
            raise RuntimeError

    stream = Odd()
    stop = logs.configure("chat", stream=stream)
    structlog.get_logger().info("x")
    stop()

    assert "x" == json.loads(stream.getvalue())["event"]
    assert "logger" not in json.loads(stream.getvalue())


def test_the_default_is_the_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a target lines go where containers look for them."""
    stop = logs.configure("chat")
    structlog.get_logger().info("x")
    stop()

    assert "x" == json.loads(capsys.readouterr().out)["event"]


def test_our_own_lines_can_be_counted(written: Written) -> None:
    """A line about a request or a call that failed has the name of its event, not a template of ours."""
    app = Flask("tested")
    install(app)

    @handle_errors
    def consume() -> None:
        raise Unreachable("the CRM is down")

    app.test_client().get("/nowhere")
    consume()

    assert [("request_failed", "not_found.missing"), ("call_failed", "external.unreachable")] == [
        (line["event"], line["code"]) for line in written()
    ]


def test_servers_with_handlers_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    """What uvicorn logs is a line like all others, though it had set up logging before."""
    names = ("uvicorn", "uvicorn.error", "uvicorn.access")
    loggers = [logging.getLogger(name) for name in names]
    was = [(one.handlers[:], one.propagate, one.level) for one in loggers]
    Config("application:app")  # it configures logging, as its command does before it loads the application
    set_up = [(one.handlers[:], one.propagate) for one in loggers]
    stream = io.StringIO()
    stop = logs.configure("chat", stream=stream)
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d', "::1", "GET", "/?token=t0p", "1.1", 200
    )
    stop()

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert ["Started server process [7]", '::1 - "GET /?token=*** HTTP/1.1" 200'] == [
        line["message"] for line in lines
    ]
    assert ("", "") == capsys.readouterr()
    assert set_up == [(one.handlers, one.propagate) for one in loggers]
    for one, before in zip(loggers, was, strict=True):
        one.handlers, one.propagate = before[:2]
        one.setLevel(before[2])


def test_it_puts_back_what_was_before() -> None:
    """Stopping restores structlog and the root logger; loggers made meanwhile fall silent or follow."""
    plain = logging.StreamHandler(io.StringIO())
    ROOT.addHandler(plain)
    level = ROOT.level
    first, second = io.StringIO(), io.StringIO()
    stop = logs.configure("chat", stream=first)
    assert plain not in ROOT.handlers
    log = structlog.get_logger("app")
    log.info("one")
    stop_second = logs.configure("chat", stream=second, level="error")
    log.info("two")
    log.error("three")
    logging.getLogger("app").error("four")
    stop()  # not in force any more
    log.error("five")
    stop_second()
    log.info("six")
    stop()
    log.info("seven")

    assert ["one", "six"] == [json.loads(line)["event"] for line in first.getvalue().splitlines()]
    assert ["three", "four", "five"] == [json.loads(line)["event"] for line in second.getvalue().splitlines()]
    assert level == ROOT.level
    assert plain in ROOT.handlers
    ROOT.removeHandler(plain)


def test_the_configuration_of_another_is_restored() -> None:
    """Who had configured structlog himself has it as it was."""
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    try:
        logs.configure("chat", stream=io.StringIO())()
        assert [structlog.processors.JSONRenderer] == [
            type(one) for one in structlog.get_config()["processors"]
        ]
    finally:
        structlog.reset_defaults()


def test_recorded_lines(written: Written) -> None:
    """The doubles of structlog.testing work."""
    log = structlog.get_logger("app")
    with structlog.testing.capture_logs() as lines:
        log.info("x", n=1)

    assert [{"event": "x", "n": 1, "log_level": "info"}] == lines
    assert [] == written()


@pytest.mark.parametrize(
    ("parameters", "error", "says"),
    [
        ({"service": ""}, ValueError, "empty"),
        ({"service": None}, TypeError, "NoneType"),
        ({"service": "x", "level": "loud"}, ValueError, "not 'loud'"),
        ({"service": "x", "stream": sys.stderr, "file": "x"}, ValueError, "not to both"),
        ({"service": "x", "file": "/nowhere/at/all.log"}, OSError, "No such file"),
    ],
)
def test_bad_parameters(parameters: Any, error: type[Exception], says: str) -> None:
    """They are refused before anything is changed."""
    with pytest.raises(error, match=says):
        logs.configure(**parameters)
    assert not structlog.is_configured()
    assert 0 == logs.lost_lines()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (MOMENT, "2026-11-25T08:31:44.123Z"),
        (MOMENT + 0.877, "2026-11-25T08:31:45.000Z"),
        (MOMENT - 1, "2026-11-25T08:31:43.123Z"),
    ],
)
def test_timestamps(seconds: float, text: str) -> None:
    """They are UTC by ISO 8601, with milliseconds."""
    assert text == timestamp(seconds)


def test_logging_in_a_task_that_is_cancelled(written: Written) -> None:
    """Cancellation passes; only exceptions are kept from who logs."""

    class Cancelling:
        def __repr__(self) -> str:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        structlog.get_logger("app").info("x", value=Cancelling())
    assert [] == written()
