"""Doubles for your tests and ours; each is loaded when it is first asked for.

- `clock`: `FakeClock`, a clock that moves only when told to, and `no_waits`, which skips the waits.
- `fake_store`, `broken_store`: `FakeStore`, what processes share in a cache, in memory; `BrokenStore`, one
  that hangs, lies and dies on demand.
- `fake_kommo`: `FakeKommo`, a whole Kommo (amoCRM) account in a process of its own, and the `Fault` script
  that makes it fail.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilient_agents.testing.broken_store import BrokenStore
    from resilient_agents.testing.clock import FakeClock, no_waits
    from resilient_agents.testing.fake_kommo import FakeKommo, Fault, load_faults
    from resilient_agents.testing.fake_store import FakeStore

_DOORS = {
    "BrokenStore": "broken_store",
    "FakeClock": "clock",
    "FakeKommo": "fake_kommo",
    "FakeStore": "fake_store",
    "Fault": "fake_kommo",
    "load_faults": "fake_kommo",
    "no_waits": "clock",
}

__all__ = [
    "BrokenStore",
    "FakeClock",
    "FakeKommo",
    "FakeStore",
    "Fault",
    "load_faults",
    "no_waits",
]


def __getattr__(name: str) -> Any:
    """Open a door: load the module behind *name* when it is first asked for (PEP 562)."""
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_DOORS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
