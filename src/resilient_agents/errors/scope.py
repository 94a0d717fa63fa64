"""Which dependency the code at hand talks to, so that its failures are known as that dependency's."""

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

MARK = "resilient_agents_dependency"
"""The attribute of an exception that names the dependency in whose block it was raised."""

_Block: TypeAlias = tuple[str, "Dependency", "_Block | None"]
"""The name of a block that is open, what opened it, and the block around it."""

_open: ContextVar["_Block | None"] = ContextVar(MARK, default=None)

innermost = _open.get
"""Return the innermost block that is open here; its first part is the name."""

held_by: Callable[[BaseException], dict[str, Any]] = vars(BaseException)["__dict__"].__get__
"""Return the attributes of an exception: each has a dict, also one whose class has slots or hides it."""


class Dependency:
    """The block or decorator that `dependency` makes. It may be used again, also within itself."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"dependency({self.name!r})"

    def __enter__(self) -> None:
        _open.set((self.name, self, _open.get()))

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        found = _open.get()
        if found is not None and found[1] is self:  # a generator may be closed in another context
            _open.set(found[2])
        if isinstance(exc, Exception):
            _mark(exc, self.name)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* in a block of this dependency; ``def`` and ``async def`` alike.

        Raises:
            TypeError: *fn* is a class, a generator function or no function at all.
        """
        _check(fn)

        @wraps(fn)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return fn(*args, **kwargs)

        @wraps(fn)
        async def acall(*args: P.args, **kwargs: P.kwargs) -> Any:
            with self:
                return await cast("Any", fn)(*args, **kwargs)

        awaited = any(map(inspect.iscoroutinefunction, (fn, type(fn).__call__)))
        return cast("Callable[P, R]", acall) if awaited else call


def _check(fn: Any) -> None:
    if isinstance(fn, type):
        raise TypeError(
            f"put @dependency on the methods of {fn.__qualname__} that call out, not on the class"
        )
    if isinstance(fn, staticmethod | classmethod):
        raise TypeError(f"put @dependency below @{type(fn).__name__}, directly on the function")
    if not callable(fn):
        raise TypeError(f"@dependency is for functions, and this is a value of type {type(fn).__name__}")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(
            "@dependency cannot hold a generator function: its body runs after the call has returned. "
            "Put it on the function that fetches one item or one page"
        )


def _mark(exc: Exception, name: str) -> None:
    """Note the dependency on *exc* and on the leaves of a group, which ``except*`` may take apart."""
    stack = [exc]
    while stack:
        found = stack.pop()
        # A block inside this one was nearer to what failed, so its mark stays.
        held_by(found).setdefault(MARK, name)
        if isinstance(found, ExceptionGroup):
            stack.extend(found.exceptions)


def marked(exc: BaseException) -> str:
    """Return the dependency in whose block *exc* was raised, or an empty text."""
    name = held_by(exc).get(MARK)
    return name if isinstance(name, str) else ""


def in_force() -> str:
    """Return the dependency whose block is open here, or an empty text."""
    found = _open.get()
    return "" if found is None else found[0]


def dependency(name: str) -> Dependency:
    """Say whose failures those of the code at hand are: a ``with`` block, and a decorator.

    Some exceptions do not tell. A body that is no JSON is a dependency's failure, our caller's or our own,
    and only the code around it knows::

        with dependency("kommo"):
            leads = response.json()     # what fails here is external.bad_body, of "kommo"

        @dependency("kommo")
        async def fetch_lead(lead_id): ...

    While it is open, `classify` takes what says nothing of its own about its origin as this dependency's, and
    names the dependency in the detail of each failure of a dependency. An exception that leaves the block
    stays known as this dependency's, wherever it is classified. What has an origin of its own keeps it: our
    caller's refusal by a web framework, an `ApiError`, a defect like `TypeError`, a full disk.

    Of blocks in each other the innermost counts. It follows the context: into tasks and into
    `asyncio.to_thread`, not into bare threads. Do not ``yield`` inside it.

    Args:
        name: What details, logs and metrics call the dependency. Use few names, not one a host or a tenant.

    Returns:
        A context manager and decorator. It may be kept and used again.

    Raises:
        TypeError: *name* is no text.
        ValueError: *name* is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"dependency() takes a name, not a value of type {type(name).__name__}")
    if not name.strip():
        raise ValueError('dependency() needs a name, as in dependency("kommo")')
    return Dependency(name)
