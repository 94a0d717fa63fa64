"""The comparison of the two ledgers: it must see what is lost and what is there twice."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.cli.demo.ledger import Result, compare, keys_of, percentile

KEYS = st.lists(st.sampled_from("abcdefgh"))


def test_ledgers_that_agree_are_perfect() -> None:
    """Every lead acknowledged and held once: nothing lost, nothing duplicated."""
    result = compare({"a": 0.001, "b": 0.003}, ["b", "a"], waiting=0, restarts=2)

    assert result == Result(
        accepted=2,
        delivered=2,
        lost=0,
        duplicated=0,
        waiting=0,
        restarts=2,
        ack_p50_ms=1.0,
        ack_p95_ms=3.0,
    )
    assert result.is_perfect(2)


@pytest.mark.parametrize(
    ("held", "delivered", "lost", "duplicated"),
    [
        (["a"], 1, 1, 0),
        (["a", "b", "b"], 2, 0, 1),
        (["a", "a", "a"], 1, 1, 2),
        ([], 0, 2, 0),
    ],
)
def test_loss_and_duplication_are_seen(held: list[str], delivered: int, lost: int, duplicated: int) -> None:
    """A lead that was acknowledged and is missing is lost; a second copy is a duplicate."""
    result = compare({"a": 0.001, "b": 0.001}, held, waiting=0, restarts=0)

    assert (delivered, lost, duplicated) == (result.delivered, result.lost, result.duplicated)
    assert not result.is_perfect(2)


def test_duplicate_of_an_unacknowledged_lead_is_seen() -> None:
    """Copies count even where the sender never heard of success."""
    result = compare({"a": 0.001}, ["a", "x", "x"], waiting=0, restarts=0)

    assert 1 == result.duplicated
    assert not result.is_perfect(1)


@pytest.mark.parametrize(("waiting", "leads"), [(1, 1), (0, 2)])
def test_what_still_waits_or_was_never_accepted_is_not_perfect(waiting: int, leads: int) -> None:
    """A demo is passed only if the queue is empty and every lead was accepted."""
    assert not compare({"a": 0.001}, ["a"], waiting=waiting, restarts=0).is_perfect(leads)


@given(acknowledged=st.sets(st.sampled_from("abcdefgh")), held=KEYS)
def test_every_lead_is_counted_once(acknowledged: set[str], held: list[str]) -> None:
    """Delivered and lost add up to accepted; without duplicates each key is held once."""
    result = compare(dict.fromkeys(acknowledged, 0.1), held, waiting=0, restarts=0)

    assert result.accepted == result.delivered + result.lost
    assert result.lost == len(acknowledged - set(held))
    assert len(held) == len(Counter(held)) + result.duplicated


def test_key_is_read_from_the_external_id() -> None:
    """A lead without one has the empty key, so that two of them would be reported."""
    leads: list[dict[str, Any]] = [{"custom_fields": {"EXTERNAL_ID": ["form-1"]}}, {"custom_fields": {}}]

    assert ["form-1", ""] == keys_of(leads)


def test_percentiles_without_acknowledgements_are_unknown() -> None:
    """Nothing was measured, so nothing is said."""
    result = compare({}, [], waiting=0, restarts=0)

    assert (None, None) == (result.ack_p50_ms, result.ack_p95_ms)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5), (0.95, 10), (0.9, 9), (1.0, 10), (0.01, 1)])
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    """The result is the smallest value that enough others do not exceed."""
    assert expected == percentile([7, 3, 1, 10, 4, 2, 6, 5, 9, 8], share)


@given(values=st.lists(st.floats(0, 100), min_size=1), share=st.floats(0.01, 1))
def test_percentile_bounds_its_share(values: list[float], share: float) -> None:
    """At least the share asked for is at or below the percentile, which is one of the values."""
    found = percentile(values, share)

    assert found in values
    assert found is not None
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
