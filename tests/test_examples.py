"""The examples, run as a user runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def output_of(example: str, folder: Path) -> str:
    """Run an example in an empty folder, as a program of its own, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KOMMO_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / example],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ("", 0) == (done.stderr, done.returncode)
    return done.stdout


def test_quickstart(tmp_path: Path) -> None:
    """The quickstart delivers one lead at once and one by a worker, and says so."""
    told = output_of("quickstart.py", tmp_path)
    lines = re.sub(r"due=[0-9.]+", "due=…", told).splitlines()

    assert [
        "Ann: Delivered(entry_id=1, reference='10000001', value=10000001)",
        "Ann again: Delivered(entry_id=1, reference='10000001', value=10000001)",
        "Bob: Queued(entry_id=2, due=…, state=<State.PENDING: 'pending'>, code=None)",
        "Worker: Pass(delivered=1, deferred=0, parked=0)",
        "In Kommo: 10000001 10000002",
    ] == lines
