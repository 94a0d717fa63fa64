"""A failure in plain words."""

import asyncio

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.errors import (
    Advice,
    Category,
    NotFound,
    Origin,
    RateLimited,
    classify,
    dependency,
    exceptions,
    explain,
    register,
)
from resilient_agents.errors.explanations import _AGAIN, _NOW, _NOW_BY_CODE, _WHOSE
from resilient_agents.errors.tables import VERDICTS


def test_it_tells_what_whose_again_caller_and_now() -> None:
    """Each question of the person at night has a line."""
    request = httpx.Request("POST", "https://acme.kommo.com/api/v4/leads")
    with dependency("kommo"):
        text = explain(httpx.ReadTimeout("x", request=request))

    assert (
        text
        == """\
What: kommo: A dependency did not answer in time: httpx.ReadTimeout, acme.kommo.com
Whose: that of kommo, a dependency.
Again: Only where doing it twice is harmless, or once it is known not to have been done: it may have been.
Caller: HTTP 504, code external.timeout.
Now: Look at the other side's status page and the network. It passes when they are well."""
    )


def test_it_tells_when() -> None:
    """A wait that was asked for is in the text."""
    assert "once the other side is ready for it. It asked for 300 seconds." in explain(
        RateLimited(retry_after=300)
    )


def test_it_takes_a_decision_too() -> None:
    """What an event carries can be explained as well as what was raised."""
    exc = NotFound("There is no lead 7")
    assert explain(exc) == explain(classify(exc))
    assert "What: There is no lead 7\nWhose: our caller's: " in explain(exc)


@given(st.text(min_size=4))
def test_the_text_of_an_unknown_exception_is_never_shown(secret: str) -> None:
    """An explanation is made of safe facts only."""
    assert explain(RuntimeError("x")) == explain(RuntimeError(secret))
    assert explain(Exception("x")) == explain(Exception(secret))


def test_every_category_origin_and_advice_has_its_words() -> None:
    """Nothing that can be decided is without an explanation."""
    assert set(Category) == set(_NOW)
    assert set(Origin) == set(_WHOSE)
    assert set(Advice) == set(_AGAIN)


def test_every_code_that_has_its_own_words_exists() -> None:
    """No advice is for a code that nobody gives."""
    ours = {cls.code for cls in vars(exceptions).values() if isinstance(cls, type) and hasattr(cls, "code")}
    assert set(_NOW_BY_CODE) <= {*VERDICTS, *ours}


def test_a_code_of_the_users_is_explained_by_its_category() -> None:
    """Codes are open; the category says what to do."""
    register(KeyError, category=Category.EXTERNAL, code="external.maintenance")
    assert "code external.maintenance.\nNow: Look at the other side's status page" in explain(KeyError())


def test_a_cancellation_is_raised_again() -> None:
    """What is no failure is not explained away."""
    with pytest.raises(asyncio.CancelledError):
        explain(asyncio.CancelledError())
