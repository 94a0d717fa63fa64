"""Log lines on real files, pipes and full disks: who logs never hears of it, and the loss is told once."""

import io
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

from resilient_agents.integrations import structlog as logs
from resilient_agents.integrations._log_writer import Writer

LIMITED = """
    import json, logging, resource, sys
    from pathlib import Path
    import structlog
    from resilient_agents.integrations import structlog as logs

    path = Path(sys.argv[1])
    logs.configure("chat", file=path)
    log = structlog.get_logger("app")
    log.info("before")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))  # the next line does not fit
    log.info("lost", number=1)
    logging.getLogger("app").info("lost", extra={"number": 2})
    assert logs.lost_lines() == 2, logs.lost_lines()
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    log.info("after")
    log.info("after all")
    assert logs.lost_lines() == 2, logs.lost_lines()
"""


def run(code: str, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run a program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], check=True, timeout=120, **options
    )


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file; those that were torn are not JSON."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append({"event": "torn"})
    return found


def test_a_full_disk(tmp_path: Path) -> None:
    """Lines that do not fit are counted; when there is room again, one line tells how many and why."""
    run(LIMITED, str(tmp_path / "log"))

    lines = lines_of(tmp_path / "log")
    assert ["before", "torn", "after", "log_lines_lost", "after all"] == [line["event"] for line in lines]
    assert ("error", 2, "2 log lines were lost: File too large") == (
        lines[3]["level"],
        lines[3]["lost"],
        lines[3]["message"],
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_device_without_room() -> None:
    """No write ever succeeds, no call ever raises."""
    stop = logs.configure("chat", file="/dev/full")
    log = structlog.get_logger("app")
    for number in range(100):
        log.info("lost", number=number)
    lost = logs.lost_lines()
    stop()

    assert 100 == lost


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_stream_without_room() -> None:
    """So it is with a buffered stream."""
    with Path("/dev/full").open("w") as stream:
        stop = logs.configure("chat", stream=stream)
        structlog.get_logger("app").info("lost")
        lost = logs.lost_lines()
        stop()
        with pytest.raises(OSError, match="No space"):
            stream.close()

    assert 1 == lost


def test_a_closed_stream() -> None:
    """Somebody closed what lines go to."""
    stream = io.StringIO()
    stop = logs.configure("chat", stream=stream)
    stream.close()
    structlog.get_logger("app").info("lost")
    lost = logs.lost_lines()
    stop()

    assert 1 == lost


def test_a_broken_pipe() -> None:
    """Nobody reads any more: the program goes on and ends well."""
    code = """
        import os, sys, structlog
        from resilient_agents.integrations import structlog as logs

        logs.configure("chat", stream=os.fdopen(int(sys.argv[1]), "w"))
        log = structlog.get_logger("app")
        for _ in range(3):
            log.info("lost", text="x" * 10_000)
        os.write(2, str(logs.lost_lines()).encode())
        os._exit(0)
    """
    reader, writer = os.pipe()
    os.close(reader)
    try:
        told = run(code, str(writer), pass_fds=[writer], stderr=subprocess.PIPE)
    finally:
        os.close(writer)

    assert b"3" == told.stderr


def test_a_loss_that_cannot_be_told_is_kept() -> None:
    """The number of lost lines waits until a line can be written after the one that worked."""
    outcomes = iter([False, True, False, False, True, True])
    said: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if not next(outcomes):
                raise OSError(28, "No space left on device")
            said.append(text.strip())
            return len(text)

    writer = Writer(Stream(), lambda lost, why: f"{lost} lost: {why}")
    for name in ("one", "two", "three", "four"):
        writer.write(name)

    assert ["two", "four", "2 lost: No space left on device"] == said
    assert 2 == writer.lost


def test_no_stream_at_all() -> None:
    """A program without a standard output has None there."""
    writer = Writer(None, lambda lost, why: "")  # type: ignore[arg-type]
    writer.write("x")
    writer.close()

    assert 1 == writer.lost


def test_a_stream_in_ascii() -> None:
    """What an encoding does not have is escaped, so that the line is still JSON."""
    raw = io.BytesIO()
    stop = logs.configure("chat", stream=io.TextIOWrapper(raw, encoding="ascii"))
    structlog.get_logger("app").info("привет 🙂", text="é")
    stop()

    line = json.loads(raw.getvalue().decode("ascii"))
    assert ("привет 🙂", "é") == (line["event"], line["text"])


def test_a_file_is_its_owners(tmp_path: Path) -> None:
    """What is logged is not for everybody's eyes; a file that exists is added to."""
    path = tmp_path / "log"
    for event in ("one", "two"):
        stop = logs.configure("chat", file=path)
        structlog.get_logger("app").info(event)
        stop()

    assert 0o600 == path.stat().st_mode & 0o777
    assert ["one", "two"] == [line["event"] for line in lines_of(path)]


def test_many_threads_and_processes_write_whole_lines(tmp_path: Path) -> None:
    """Lines of several writers do not mix."""
    code = """
        import sys, threading, structlog
        from resilient_agents.integrations import structlog as logs

        logs.configure("chat", file=sys.argv[1])
        log = structlog.get_logger("app")

        def write(name):
            for number in range(200):
                log.info("x", writer=sys.argv[2] + name, number=number, text="y" * 500)

        threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    path = tmp_path / "log"
    children = [threading.Thread(target=run, args=(code, str(path), str(number))) for number in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()

    lines = lines_of(path)
    assert 1200 == len(lines)
    for writer in ("0a", "0b", "0c", "1a", "1b", "1c"):
        assert list(range(200)) == [line["number"] for line in lines if line["writer"] == writer]


def test_a_forked_child_can_log(tmp_path: Path) -> None:
    """A lock that another thread held when the process forked does not stop its child."""
    code = """
        import os, sys, structlog
        from resilient_agents.integrations import _loggers, structlog as logs
        import threading

        logs.configure("chat", file=sys.argv[1])
        held = threading.Event()

        def hold():
            with _loggers.lines.writer._lock:
                held.set()
                threading.Event().wait()

        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        child = os.fork()
        if child == 0:
            structlog.get_logger("app").info("from the child")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    run(code, str(tmp_path / "log"), stderr=subprocess.DEVNULL)

    assert ["from the child"] == [line["event"] for line in lines_of(tmp_path / "log")]


def test_a_signal_handler_can_log() -> None:
    """A handler that interrupts a thread while it writes, writes too: it does not wait for that thread."""
    said: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if not said:
                said.append("interrupted")
                structlog.get_logger("app").info("from the handler")
            said.append(json.loads(text)["event"])
            return len(text)

    stop = logs.configure("chat", stream=Stream())
    structlog.get_logger("app").info("line")
    stop()

    assert ["interrupted", "from the handler", "line"] == said
