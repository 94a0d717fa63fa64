"""The fault script: which requests fail, and how."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random
from typing import Any, Literal

from resilient_agents.errors import ValidationFailed
from resilient_agents.testing.fake_kommo.schema import (
    SECONDS,
    TEXT,
    Rule,
    check,
    invalid,
    is_count,
    is_number,
    one_of,
    optional,
)

KINDS = (
    "latency",
    "hang",
    "refuse",
    "reset",
    "drop",
    "truncate",
    "drip",
    "html",
    "429",
    "500",
    "502",
    "503",
    "504",
)
"""Every kind of fault. What each does is told in `Fault`."""

_NEED_SECONDS = frozenset({"latency", "hang", "refuse", "drip"})
_MAY_COMMIT = frozenset({"latency", "hang", "drop", "500", "502", "504"})

_RULES: dict[str, Rule] = {
    "kind": one_of(*KINDS),
    "route": TEXT,
    "method": optional(one_of("GET", "POST", "PUT", "PATCH", "DELETE")),
    "calls": (lambda value: isinstance(value, tuple) and all(map(is_count, value)), "call numbers from 1"),
    "probability": (lambda value: is_number(value) and 0 < value <= 1, "over 0 and at most 1"),
    "times": optional((is_count, "a whole number from 1")),
    "seconds": SECONDS,
    "commit": (lambda value: isinstance(value, bool) or value == "late", 'true, false or "late"'),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One way in which the CRM or the network fails, and for which requests.

    What the client sees, by *kind*:

    - ``latency``: the usual answer, *seconds* later.
    - ``hang``: nothing for *seconds*, then a closed connection.
    - ``refuse``: a closed connection, and for *seconds* nobody listens on the port.
    - ``reset``: a reset connection (RST).
    - ``drop``: a closed connection without an answer.
    - ``truncate``: the usual answer with half of its body, then a closed connection.
    - ``drip``: the usual answer, its body spread over *seconds*.
    - ``html``: an HTML page with status 200.
    - ``429``, ``500``: the vendor's JSON error.
    - ``502``, ``503``, ``504``: the gateway's HTML error page.

    Attributes:
        kind: What happens.
        route: Shell-style pattern of the paths concerned, without the query. The default is every path.
        method: The HTTP method concerned. The default is every method.
        calls: Numbers of the calls concerned, counted from 1 over those that match *route* and *method*.
            The default is every call.
        probability: Chance of a concerned call to fail, drawn from the seed of the fake. The default is 1.
        times: How often the fault happens at most. The default is no limit.
        seconds: How long it takes, in seconds. Kinds without a time of their own wait so long before they
            happen. The default is 0.
        commit: Whether the request is executed although the client sees a failure: *True* at once, *False*
            never, ``"late"`` *seconds* after it came, while the client has its failure already. For
            ``latency``, which always executes, *True* means before the wait. The default is *False*.

    Raises:
        ValidationFailed: A value is wrong, or does not go with *kind*; the message names the field.
    """

    kind: str
    route: str = "*"
    method: str | None = None
    calls: tuple[int, ...] = ()
    probability: float = 1.0
    times: int | None = None
    seconds: float = 0.0
    commit: bool | Literal["late"] = False

    def __post_init__(self) -> None:
        check("fault", asdict(self), _RULES)
        if self.kind in _NEED_SECONDS and not self.seconds:
            raise invalid("fault", "seconds", f"must be over 0 for a {self.kind}")
        if self.commit and self.kind not in _MAY_COMMIT:
            raise invalid("fault", "commit", f"does not go with {self.kind}")
        if self.commit == "late" and (self.kind == "latency" or not self.seconds):
            raise invalid("fault", "commit", 'can be "late" only with seconds over 0, and not for latency')

    @classmethod
    def from_json(cls, document: Any) -> "Fault":
        """Return the fault that a decoded JSON object describes.

        Args:
            document: A mapping with the attributes' names; *kind* may be a number, *calls* a number or
                a list.

        Raises:
            ValidationFailed: It describes no fault; the message names the field.
        """
        if not isinstance(document, Mapping):
            raise ValidationFailed("fault: must be an object with a 'kind'")
        if "kind" not in document:
            raise invalid("fault", "kind", "is missing")
        values = dict(document)
        if is_count(values["kind"]):
            values["kind"] = str(values["kind"])
        if "calls" in values:
            calls = values["calls"]
            values["calls"] = tuple(calls) if isinstance(calls, list) else (calls,)
        check("fault", values, _RULES)
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return what differs from the defaults, ready for JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {
            name: value for name, value in values.items() if name == "kind" or value != _DEFAULTS[name]
        }
        if "calls" in changed:
            changed["calls"] = list(self.calls)
        return changed

    def concerns(self, method: str, path: str) -> bool:
        """Return whether a request to *path* by *method* is one of those this fault is for."""
        return self.method in (None, method) and fnmatchcase(path, self.route)


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Fault)}


def parse_faults(document: Any) -> list[Fault]:
    """Return the faults of a decoded JSON list.

    Raises:
        ValidationFailed: It is no list, or an item is no fault; the message tells which one and why.
    """
    if not isinstance(document, list):
        raise ValidationFailed("fault script: must be a JSON list of faults")
    faults = []
    for position, item in enumerate(document):
        try:
            faults.append(Fault.from_json(item))
        except ValidationFailed as exc:
            errors = [{**error, "loc": (position, *error["loc"])} for error in exc.errors]
            raise ValidationFailed(f"fault script, item {position}: {exc.detail}", errors=errors) from None
    return faults


def load_faults(path: str | Path) -> list[Fault]:
    """Return the faults of a JSON file.

    Args:
        path: A file with a list of objects, each with the attributes of a `Fault`.

    Raises:
        ValidationFailed: The file cannot be read or is no fault script; the message says where it is wrong.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise ValidationFailed(f"fault script: the file cannot be read: {exc.strerror}") from None
    except ValueError:
        raise ValidationFailed("fault script: the file is not JSON in UTF-8") from None
    return parse_faults(document)


class _Line:
    """A fault of a script, with what it has seen so far."""

    def __init__(self, fault: Fault, random: Random) -> None:
        self.fault = fault
        self.random = random
        self.seen = 0
        self.happened = 0

    def due(self, method: str, path: str) -> bool:
        """Count the call if it is concerned, and return whether it should fail."""
        fault = self.fault
        if not fault.concerns(method, path):
            return False
        self.seen += 1
        drawn = self.random.random() < fault.probability
        spent = fault.times is not None and self.happened >= fault.times
        return drawn and not spent and (not fault.calls or self.seen in fault.calls)


class Script:
    """Decides which request meets which fault; the same requests in the same order meet the same faults.

    Args:
        faults: The first one that is due for a request happens to it.
        seed: What the probabilities are drawn from. Each fault has a generator of its own.
    """

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        self._lines = [
            _Line(fault, Random(f"{seed}:{position}"))  # noqa: S311 - repeatable, not secret
            for position, fault in enumerate(faults)
        ]

    def faults(self) -> list[Fault]:
        """Return the faults, in order."""
        return [line.fault for line in self._lines]

    def pick(self, method: str, path: str) -> Fault | None:
        """Return the fault that happens to this request, or *None*; every fault counts the call."""
        due = [line for line in self._lines if line.due(method, path)]
        if not due:
            return None
        due[0].happened += 1
        return due[0].fault
