"""What happens when the process ends, is told to end, or forks."""

import atexit
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, Protocol


class Engine(Protocol):
    """A log's engine, which lives as long as its process."""

    def close(self) -> object:
        """Deliver what there is, put the rest on disk, and end."""

    def secure(self) -> object:
        """Put on disk what has not arrived."""

    def hold(self) -> object:
        """Take nothing any more, and do as `close` does."""

    def reopen(self) -> object:
        """Undo that."""

    def before_fork(self) -> object:
        """Let go of files."""

    def after_fork_in_parent(self) -> object:
        """Go on."""

    def after_fork_in_child(self) -> object:
        """Begin empty."""


_logs: set[Engine] = set()
"""They are held, or one that its maker has let go of would take what it holds with it."""
_before: Any = signal.SIG_DFL


def register(log: Engine) -> None:
    """See to it that *log* loses nothing when the process ends."""
    _logs.add(log)
    _watch_sigterm()


def forget(log: Engine) -> None:
    """Leave *log* alone: it is closed."""
    _logs.discard(log)


def _watch_sigterm() -> None:
    """Hear of SIGTERM before the application does. Only the main thread can see to that."""
    global _before
    if threading.current_thread() is not threading.main_thread():
        return
    current = signal.getsignal(signal.SIGTERM)
    if current is None or current is signal.SIG_IGN or current is _on_sigterm:
        return
    _before = current
    signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    """Save the entries, then let happen what would have happened."""
    # A handler that was put in later, and calls this one, decides itself whether the process ends.
    is_last_word = signal.getsignal(number) is _on_sigterm and not callable(_before)
    if not is_last_word:
        for log in list(_logs):
            log.secure()
        if callable(_before):
            _before(number, frame)
        return
    for log in list(_logs):
        log.hold()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # Still here: the first process of a container does not die of it.
    signal.signal(number, _on_sigterm)
    for log in list(_logs):
        log.reopen()


@atexit.register
def _at_exit() -> None:
    for log in list(_logs):
        log.close()


def end_with_process(log: Engine) -> None:
    """Close *log* also at the end of a child of multiprocessing, which skips `atexit`."""
    process, util = map(sys.modules.get, ("multiprocessing.process", "multiprocessing.util"))
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, log.close, exitpriority=10)


def _before_fork() -> None:
    for log in list(_logs):
        log.before_fork()


def _after_fork_in_parent() -> None:
    for log in list(_logs):
        log.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for log in list(_logs):
        log.after_fork_in_child()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
