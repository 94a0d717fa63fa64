"""A forked child reports its own failures."""

import subprocess
import sys

CODE = """
import os
import threading

from resilient_agents.integrations import _repeats

held = threading.Event()


def hold():
    with _repeats._lock:
        held.set()
        threading.Event().wait()


threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    assert _repeats.Repeats(60.0).passes("kind", 0.0) == 0
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_lock_that_was_held_does_not_stop_a_child() -> None:
    """Another thread may be judging a failure at the moment of the fork."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], check=True, timeout=60)
