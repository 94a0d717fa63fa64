"""What was accepted against what arrived: two ledgers, kept outside the process that is killed."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resilient_agents.cli.demo.scenario import EXTERNAL_ID


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of the leads of one trial.

    Attributes:
        accepted: How many were acknowledged with a 2xx.
        delivered: How many of these the CRM holds.
        lost: How many of these it does not hold.
        duplicated: How many leads it holds beyond one for each key.
        waiting: How many leads the intake still held when it was stopped.
        restarts: How often the intake was killed and started again.
        ack_p50_ms: Time in milliseconds in which half of the acknowledgements came, or *None*.
        ack_p95_ms: The same for 95 of 100.
    """

    accepted: int
    delivered: int
    lost: int
    duplicated: int
    waiting: int
    restarts: int
    ack_p50_ms: float | None
    ack_p95_ms: float | None

    def is_perfect(self, leads: int) -> bool:
        """Tell whether all of *leads* were accepted, and each of them arrived once."""
        return self.accepted == leads and self.lost == self.duplicated == self.waiting == 0


def compare(acknowledged: Mapping[str, float], held: Iterable[str], *, waiting: int, restarts: int) -> Result:
    """Compare the ledger of the sender with that of the CRM.

    Args:
        acknowledged: How long each acknowledgement took, in seconds, by the lead's key.
        held: The key of each lead in the CRM, as often as it is there.
        waiting: How many leads the intake still holds.
        restarts: How often the intake was restarted.
    """
    copies = Counter(held)
    delivered = sum(key in copies for key in acknowledged)
    return Result(
        accepted=len(acknowledged),
        delivered=delivered,
        lost=len(acknowledged) - delivered,
        duplicated=copies.total() - len(copies),
        waiting=waiting,
        restarts=restarts,
        ack_p50_ms=_milliseconds(acknowledged.values(), 0.50),
        ack_p95_ms=_milliseconds(acknowledged.values(), 0.95),
    )


def keys_of(leads: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the key that each lead of the CRM carries; empty where it carries none."""
    return [(lead["custom_fields"].get(EXTERNAL_ID) or [""])[0] for lead in leads]


def percentile(values: Collection[float], share: float) -> float | None:
    """Return the smallest of *values* that at least *share* of them do not exceed; *None* without values.

    The nearest-rank method: the result is always one of the values.

    Args:
        values: The values, in any order.
        share: More than 0, at most 1.
    """
    if not values:
        return None
    return sorted(values)[math.ceil(share * len(values)) - 1]


def _milliseconds(seconds: Collection[float], share: float) -> float | None:
    value = percentile(seconds, share)
    return None if value is None else round(value * 1000, 2)
