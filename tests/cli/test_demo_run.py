"""The demo itself: real processes, real sockets, real kills."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-c", "from resilient_agents.cli import main; main()", "demo")


@pytest.mark.crash
def test_library_loses_and_duplicates_nothing(tmp_path: Path) -> None:
    """Killed twice amid failures of every kind, the library delivers each lead once; the files agree."""
    command = [
        *COMMAND,
        "--leads",
        "40",
        "--kills",
        "2",
        "--seed",
        "7",
        "--json",
        "--keep",
        str(tmp_path / "kept"),
    ]
    child = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, timeout=120)
    told = json.loads(child.stdout)
    library, naive = told["library"], told["naive"]

    assert 0 == child.returncode
    assert 7 == told["seed"]
    assert (40, 40, 0, 0, 2) == tuple(
        library[name] for name in ("accepted", "delivered", "lost", "duplicated", "restarts")
    )
    assert (40, 2) == (naive["accepted"], naive["restarts"])
    assert 0 < library["ack_p50_ms"] <= library["ack_p95_ms"]
    assert 40 == len(json.loads((tmp_path / "kept/library/accepted.json").read_text()))
    assert naive["lost"] == 40 - naive["delivered"]
    assert (tmp_path / "kept/library/leads.db").exists()


def test_ctrl_c_ends_the_demo_and_its_children(
    processes: Callable[[], dict[int, tuple[int, str]]], ends: Callable[[int], bool]
) -> None:
    """The exit status says that it was interrupted, and no child is left."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from resilient_agents.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "demo", "--leads", "1000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as demo:
        assert demo.stderr is not None
        demo.stderr.readline()
        children: list[int] = []
        while len(children) < 2:
            children = [pid for pid, (parent, _) in processes().items() if parent == demo.pid]
        demo.send_signal(signal.SIGINT)

    assert 130 == demo.returncode
    assert all(ends(child) for child in children)
