"""Which orders of policies make sense: known by the kind that each policy says it is."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any


class PolicyOrderWarning(UserWarning):
    """A pipeline's order seldom does what is wanted."""


_GATES = ("breaker", "limiter", "bulkhead", "adaptive")

_WRONG: dict[tuple[str, str], str] = {
    ("retry", "retry"): "two retries multiply: one of them is enough",
    ("hedge", "hedge"): "two hedges multiply: one of them is enough",
    ("fallback", "fallback"): "the inner fallback leaves nothing to the outer one",
    ("breaker", "breaker"): "two breakers in one pipeline watch the same calls: one of them is enough",
    ("hedge", "retry"): "each hedge would retry by itself: put the retry around the hedge",
    ("limiter", "retry"): "repetitions would not be counted by the limiter: put it inside the retry",
    ("limiter", "hedge"): "hedges would not be counted by the limiter: put it inside the hedge",
    ("adaptive", "retry"): "the limit would measure the retry's waits: put it inside the retry",
    **{
        (outer, "fallback"): f"the fallback hides every failure from the {outer}: put it outermost"
        for outer in ("retry", "hedge", "breaker", "adaptive")
    },
    **{
        ("chaos", inner): f"its faults would not pass through the {inner}: put chaos last"
        for inner in ("fallback", "timeout", "retry", "hedge", *_GATES)
    },
}
"""Pairs of an outer and an inner policy that cannot work, and what to do."""

_DOUBTFUL: dict[tuple[str, str], str] = {
    ("breaker", "retry"): "the breaker sees one call where the retry makes several, and stays closed longer",
    ("breaker", "hedge"): "the breaker sees one call where the hedge makes several",
    ("bulkhead", "retry"): "a place is held while the retry waits: put the bulkhead inside the retry",
    ("bulkhead", "limiter"): "a place is held while the limiter waits: put the bulkhead inside the limiter",
    (
        "limiter",
        "breaker",
    ): "calls that the breaker refuses use up starts: put the limiter inside it",
}
"""Pairs that work, and seldom as wanted."""


def objections(policies: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Return what is wrong with an order, and what is doubtful.

    Args:
        policies: The policies, from the outside in. One without a ``kind`` is passed over.
    """
    wrong, doubtful = [], []
    for outer, inner in combinations(policies, 2):
        pair = (getattr(outer, "kind", ""), getattr(inner, "kind", ""))
        if pair in _WRONG:
            wrong.append(_WRONG[pair])
        if pair in _DOUBTFUL:
            doubtful.append(_DOUBTFUL[pair])
        if pair == ("timeout", "timeout") and inner.seconds >= outer.seconds:
            doubtful.append(
                f"the inner timeout of {inner.seconds:g} s can never be reached, for the outer one ends "
                f"everything after {outer.seconds:g} s"
            )
    return wrong, doubtful
