"""Which failure is told: the first of its kind, then one a window, with the number of those that were not."""

import os
import sysconfig
from collections.abc import Hashable
from itertools import count
from pathlib import Path
from threading import Lock
from types import TracebackType

from resilient_agents.errors.scope import held_by

MOST = 2048
"""How many kinds are known at a time; of more, the one that was told longest ago is forgotten."""

_MARK = "_resilient_agents_reported"
_MOST_LINKS = 16
_FOREIGN = ("site-packages", "dist-packages", "<frozen")
_OURS = str(Path(__file__).parents[1]) + os.sep
_STANDARD = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))

_in_app: dict[str, bool] = {}
_lock = Lock()


def _renew_lock() -> None:
    """Give a forked child its own lock: nobody in it releases one that was held."""
    global _lock
    _lock = Lock()


os.register_at_fork(after_in_child=_renew_lock)


def fingerprint(exc: BaseException, code: str) -> Hashable:
    """Return what failures of one kind have in common: class, code, and the innermost line of the program.

    A line of the standard library, of an installed package or of this one counts only where there is no
    other.
    """
    link = exc.__traceback__
    if link is None:
        return type(exc), code
    while link.tb_next is not None:
        link = link.tb_next
    name = link.tb_frame.f_code.co_filename
    if not _in_app.get(name):  # most defects are in the program itself; for the others there is a second walk
        link = _last_of_the_program(exc.__traceback__) or link
        name = link.tb_frame.f_code.co_filename
    return type(exc), code, name, link.tb_lineno


def _last_of_the_program(link: TracebackType | None) -> TracebackType | None:
    found = None
    while link is not None:
        name = link.tb_frame.f_code.co_filename
        own = _in_app.get(name)
        if own is None:
            own = _in_app[name] = _is_in_app(name)
        if own:
            found = link
        link = link.tb_next
    return found


def _is_in_app(filename: str) -> bool:
    if len(_in_app) > 10_000:  # a program that makes code without end
        _in_app.clear()
    if any(part in filename for part in _FOREIGN):
        return False
    return not filename.startswith((_OURS, *_STANDARD))


class Repeats:
    """Lets the first failure of a kind pass, then one a window.

    Args:
        window: Time in seconds.
    """

    __slots__ = ("_kinds", "window")

    def __init__(self, window: float) -> None:
        self.window = window
        self._kinds: dict[Hashable, tuple[float, count[int]]] = {}

    def passes(self, kind: Hashable, now: float) -> int | None:
        """Return how many of *kind* were held back since one passed; *None* to hold back this one."""
        known = self._kinds.get(kind)
        if known is not None and now < known[0]:  # the hot path needs no lock: a count is never torn
            next(known[1])
            return None
        with _lock:
            known = self._kinds.pop(kind, None)
            if known is not None and now < known[0]:  # another thread was first
                next(known[1])
                self._kinds[kind] = known
                return None
            if len(self._kinds) >= MOST:
                del self._kinds[next(iter(self._kinds))]
            self._kinds[kind] = (now + self.window, count())
        return 0 if known is None else next(known[1])


def mark(exc: BaseException, now: float) -> None:
    """Note that *exc* was told of, or held back, at *now* on the monotonic clock."""
    held_by(exc)[_MARK] = now


def marked(exc: BaseException, since: float, *, handling: bool = False) -> bool:
    """Tell whether *exc*, or what it was raised from, was told of.

    Args:
        exc: What was raised.
        since: Since when, on the monotonic clock: some programs raise one exception for ever, and after the
            window it is a new failure.
        handling: Whether what was being handled when it was raised counts too: it does for an answer, such as
            an ``HTTPException``, and not for a defect.
    """
    link: BaseException | None = exc
    links = 0
    while link is not None and links < _MOST_LINKS:
        told: float | None = held_by(link).get(_MARK)
        if told is not None and told > since:
            return True
        link = link.__cause__ or (link.__context__ if handling else None)
        links += 1
    return False
