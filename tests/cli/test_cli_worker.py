"""``resilient-agents worker``: the user's queue is found, and what waits in it is delivered."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from resilient_agents.cli.app import app
from resilient_agents.cli.worker import deliver_once, deliver_until_stopped, load_queue
from resilient_agents.deadletter import DeadLetterQueue, Limits, State
from resilient_agents.errors import ConfigurationError, RateLimited
from resilient_agents.testing import FakeClock

COMMAND = (sys.executable, "-c", "from resilient_agents.cli import main; main()", "worker")

QUEUE = """
import pathlib
from resilient_agents import DeadLetterQueue

queue = DeadLetterQueue("sqlite:///work.db")
empty = DeadLetterQueue("sqlite:///empty.db")
number = 7

{handler}
    if payload["to"] == "nobody":
        raise ValueError("no such address")
    with pathlib.Path("sent").open("a") as sent:
        sent.write(payload["to"] + "\\n")

def make():
    return queue

def make_at(path):
    return DeadLetterQueue(f"sqlite:///{{path}}")

class box:
    queue = queue
"""
BLOCKING = '@queue.handler("mail")\ndef send(payload):'
AWAITING = '@queue.handler("mail")\nasync def send(payload):'


@pytest.fixture(params=[BLOCKING, AWAITING], ids=["def", "async def"])
def module(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a user's module in the working directory, with a handler of either kind."""
    (tmp_path / "mailing.py").write_text(QUEUE.format(handler=request.param))
    (tmp_path / "broken.py").write_text("import a_library_that_is_missing")
    (tmp_path / "damaged.py").write_text(QUEUE.format(handler=request.param).replace("work.db", "damaged.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "mailing"
    loaded = sys.modules.pop("mailing", None)
    if loaded is not None:
        loaded.queue.close()
        loaded.empty.close()


@pytest.mark.parametrize("attribute", ["queue", "make", "box.queue"])
def test_queue_is_found(module: str, attribute: str) -> None:
    """An attribute, a function that returns one, and a dotted name all lead to the queue."""
    queue = load_queue(f"{module}:{attribute}")

    assert queue is sys.modules[module].queue


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("mailing", "MODULE:ATTRIBUTE"),
        (":queue", "MODULE:ATTRIBUTE"),
        ("no_such_module:queue", "there is no module 'no_such_module'"),
        ("mailing:missing", "has no attribute 'missing'"),
        ("mailing:number", "is no DeadLetterQueue, but int"),
        ("mailing:empty", "has no handlers"),
        ("mailing:make_at", "function with parameters; name the queue, or a function without parameters"),
        ("builtins:iter", "function with parameters"),
    ],
)
def test_wrong_target_is_refused(module: str, target: str, reason: str) -> None:
    """The message says what is wrong with it."""
    with pytest.raises(ConfigurationError, match=reason):
        load_queue(target)


def test_defect_of_the_users_module_is_shown_as_it_is(module: str) -> None:
    """A library that the module misses is not taken for the module."""
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_missing"):
        load_queue("broken:queue")


def test_one_pass_delivers_what_is_due(module: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """``--once`` tells what became of it, what still waits, and why something is parked; then it ends."""
    queue = load_queue(f"{module}:queue")
    for to in ("Анна", "nobody"):
        queue.enqueue("mail", {"to": to})
    queue.enqueue("mail", {"to": "Bob"}, delay=60)

    result = CliRunner().invoke(app, ["worker", f"{module}:queue", "--once"])

    assert 0 == result.exit_code
    assert "delivered 1, deferred 0, parked 1; still waiting 1, parked in all 1\n" == result.stdout
    assert "Анна\n" == (tmp_path / "sent").read_text()
    (parked,) = [record.getMessage() for record in caplog.records if "is parked" in record.getMessage()]
    assert parked.startswith("entry 2 of mail is parked: internal.bug, A defect in this program: ValueError")
    assert parked.endswith("; mend the cause, then queue.redrive(2)")


def test_file_that_cannot_be_opened_is_reported_in_a_line(module: str) -> None:
    """The status is 1, for nothing is wrong with the command itself."""
    result = CliRunner().invoke(app, ["worker", "damaged:queue", "--once"])

    assert 1 == result.exit_code
    assert result.stderr.startswith("Error: ")
    assert "damaged.py" in result.stderr


def test_number_of_calls_does_not_go_with_one_pass(module: str) -> None:
    """One pass makes one call at a time, and does not pretend to do otherwise."""
    result = CliRunner().invoke(app, ["worker", f"{module}:queue", "--once", "--concurrency", "8"])

    assert 2 == result.exit_code
    assert "--once makes one call at a time" in result.stderr


def test_entry_whose_workers_died_is_logged_without_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody was left to say what went wrong: the log names the reason alone."""
    url, limits = f"sqlite:///{tmp_path}/work.db", Limits(max_crashes=1)
    with FakeClock() as clock, DeadLetterQueue(url, limits=limits) as queue:

        @queue.handler("mail")
        def die(payload: object) -> None:
            raise KeyboardInterrupt

        queue.enqueue("mail", {})
        with pytest.raises(KeyboardInterrupt):
            deliver_once(queue)
        clock.advance(queue.lease + 1)

        told = deliver_once(queue)

    assert "delivered 0, deferred 0, parked 0; still waiting 0, parked in all 1" == told
    (parked,) = caplog.messages
    assert "entry 1 of mail is parked: internal.crashes; mend the cause, then queue.redrive(1)" == parked


def test_outage_of_a_target_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says that a topic pauses, and when it goes on."""
    answers: list[Exception] = [RateLimited(retry_after=0.05)]

    def send(payload: object) -> None:
        if answers:
            raise answers.pop()
        os.kill(os.getpid(), signal.SIGTERM)

    with DeadLetterQueue(f"sqlite:///{tmp_path}/work.db", limits=Limits(wait_initial=0.01)) as queue:
        queue.handler("mail")(send)
        queue.enqueue("mail", {})
        with caplog.at_level("WARNING", "resilient_agents.worker"):
            deliver_until_stopped(queue, concurrency=1)

    paused, resumed = caplog.messages
    assert paused.startswith("mail pauses for ")
    assert "mail goes on" == resumed


def test_wrong_target_ends_the_command_with_a_message() -> None:
    """The status is 2, and nothing was started."""
    result = CliRunner().invoke(app, ["worker", "nonsense"])

    assert 2 == result.exit_code
    assert "MODULE:ATTRIBUTE" in result.stderr


def test_worker_delivers_until_it_is_told_to_end(module: str, tmp_path: Path) -> None:
    """It delivers, tells of what is parked, and ends with status 0 on SIGTERM."""
    queue = load_queue(f"{module}:queue")
    for to in ("Анна", "nobody"):
        queue.enqueue("mail", {"to": to})
    os.mkfifo("sent")
    with subprocess.Popen([*COMMAND, f"{module}:queue"], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert "Анна\n" == (tmp_path / "sent").read_text()
        first = child.stderr.readline()
        assert any("entry 2 of mail is parked" in line for line in child.stderr)
        child.send_signal(signal.SIGTERM)

    assert 0 == child.returncode
    assert "delivering mail; Ctrl-C or SIGTERM ends it\n" == first
    assert 1 == queue.stats().states[State.DELIVERED]
