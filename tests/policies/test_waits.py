"""How long a `RetryPolicy` waits."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents import RetryPolicy
from resilient_agents.policies._backoff import next_wait

JITTERS: Any = st.sampled_from(["full", "equal", "none"])


@pytest.mark.parametrize(
    ("attempt", "expected"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 5.0), (6, 5.0), (9999, 5.0)]
)
def test_waits_double(attempt: int, expected: float) -> None:
    """Without jitter each wait is twice the one before, up to the maximum."""
    policy = RetryPolicy(wait_initial=0.5, wait_max=5.0, jitter="none")

    assert expected == next_wait(policy, attempt, None)[0]


@given(attempt=st.integers(1, 9999), initial=st.floats(0, 1e6), longest=st.floats(0, 1e6), jitter=JITTERS)
def test_backoff_stays_in_its_bounds(attempt: int, initial: float, longest: float, jitter: Any) -> None:
    """Full jitter is anything up to the backoff, equal jitter its upper half."""
    plain = RetryPolicy(wait_initial=initial, wait_max=longest, jitter="none")
    policy = RetryPolicy(wait_initial=initial, wait_max=longest, jitter=jitter)
    backoff = next_wait(plain, attempt, None)[0]
    least = {"full": 0.0, "equal": backoff / 2, "none": backoff}[jitter]

    assert least <= next_wait(policy, attempt, None)[0] <= backoff <= longest


@given(
    attempt=st.integers(1, 9999),
    initial=st.floats(0, 100),
    longest=st.floats(0, 100),
    hint=st.floats(0, 1e6),
    jitter=JITTERS,
)
def test_hint_is_a_floor(attempt: int, initial: float, longest: float, hint: float, jitter: Any) -> None:
    """No wait is shorter than the hint, nor longer than it has to be to spread the callers."""
    policy = RetryPolicy(wait_initial=initial, wait_max=longest, jitter=jitter)

    wait = next_wait(policy, attempt, hint)[0]

    assert hint <= wait <= max(longest, hint + initial)


@given(hint=st.none() | st.floats(0, 100))
def test_jitter_spreads_the_callers(hint: float | None) -> None:
    """Callers that failed together do not come back together, with a hint or without."""
    policy = RetryPolicy()

    assert 20 == len({next_wait(policy, 1, hint)[0] for _ in range(20)})
