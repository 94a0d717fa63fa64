"""Each exception of the package is its own verdict, and survives the way to another process."""

import copy
import pickle
from typing import Any

import pytest

from resilient_agents import errors
from resilient_agents.errors import (
    Advice,
    ApiError,
    Category,
    Level,
    Origin,
    PayloadTooLarge,
    RateLimited,
    ValidationFailed,
    classify,
)

TREE = [
    member for member in vars(errors).values() if isinstance(member, type) and issubclass(member, ApiError)
]


def test_the_whole_tree_is_exported() -> None:
    """Every class of the tree can be imported from the package, and the docstring draws it."""

    def below(cls: type[ApiError]) -> set[type[ApiError]]:
        return (
            {cls}.union(*map(below, cls.__subclasses__())) if cls.__module__ == ApiError.__module__ else set()
        )

    assert below(ApiError) == set(TREE)
    picture = errors.exceptions.__doc__ or ""
    assert [] == [cls.__name__ for cls in TREE if cls.__name__ not in picture]


@pytest.mark.parametrize("cls", TREE)
def test_a_class_is_consistent(cls: type[ApiError]) -> None:
    """The code begins with the category, the parts are of the right kinds, the title explains."""
    assert cls.code.partition(".")[0] == cls.category
    assert isinstance(cls.category, Category)
    assert isinstance(cls.advice, Advice)
    assert isinstance(cls.level, Level)
    assert isinstance(cls.origin, Origin)
    assert 400 <= cls.status <= 599
    assert cls.__doc__
    assert cls().detail == cls.title == str(cls())


@pytest.mark.parametrize("cls", TREE)
def test_the_decision_repeats_what_the_exception_says(cls: type[ApiError]) -> None:
    """Classifying an exception of ours changes nothing."""
    exc = cls("Lead 7 is gone", retry_after=3.0)
    found = classify(exc)
    for name in ("category", "origin", "code", "status", "advice", "level", "title", "detail", "retry_after"):
        assert getattr(exc, name) == getattr(found, name)


@pytest.mark.parametrize("cls", TREE)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_exception_crosses_processes_whole(cls: type[ApiError], protocol: int) -> None:
    """Pickling keeps every attribute."""
    errors_given = [{"loc": ["name"], "msg": "missing", "type": "missing"}]
    exc = cls(
        "d", origin=Origin.SELF, code=f"{cls.category}.x", status=418, retry_after=1.5, errors=errors_given
    )
    twin = pickle.loads(pickle.dumps(exc, protocol))  # noqa: S301  # our own bytes
    assert type(exc) is type(twin)
    assert vars(exc) == vars(twin)
    assert str(exc) == str(twin)
    assert classify(exc) == classify(twin)


class LeadRejected(ValidationFailed):
    """An exception of a user, with arguments of its own."""

    def __init__(self, lead_id: int, *, field: str) -> None:
        super().__init__(f"lead {lead_id}: {field} is wrong")
        self.lead_id = lead_id


def test_a_subclass_with_other_arguments_crosses_too() -> None:
    """Copying and pickling do not call the constructor, so its signature is free."""
    exc = LeadRejected(7, field="phone")
    for twin in (copy.copy(exc), pickle.loads(pickle.dumps(exc))):  # noqa: S301  # our own bytes
        assert (7, "lead 7: phone is wrong") == (twin.lead_id, str(twin))


def test_what_is_given_goes_before_the_class() -> None:
    """An instance may be finer than its class, and other instances stay as they are."""
    exc = RateLimited(
        "Kommo: 7 a second", origin=Origin.INBOUND, code="rate_limit.leads", status=429, retry_after=2
    )
    assert (Origin.INBOUND, "rate_limit.leads", 429, 2) == (exc.origin, exc.code, exc.status, exc.retry_after)
    assert 429 == exc.status_code
    assert (Origin.DEPENDENCY, 503) == (RateLimited().origin, RateLimited().status)


def test_wrong_fields_are_kept_in_order() -> None:
    """The mappings of wrong fields come out as they went in."""
    fields: list[dict[str, Any]] = [{"loc": ["a"]}, {"loc": ["b"]}]
    assert tuple(fields) == PayloadTooLarge(errors=fields).errors
    assert () == PayloadTooLarge().errors


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (7, 7.0),
        ("120", 120.0),
        (None, None),
        (-1, None),
        (float("inf"), None),
        (float("nan"), None),
        (10**9, None),
        ("Fri, 31 Dec", None),
        (True, None),
    ],
    ids=repr,
)
def test_a_wait_is_a_time(given: Any, kept: float | None) -> None:
    """A wait that was passed on from a header as text is one; what cannot be one does no harm."""
    assert kept == RateLimited(retry_after=given).retry_after
    assert kept == classify(RateLimited(retry_after=given)).retry_after


@pytest.mark.parametrize("given", [-1.0, float("inf"), "soon"], ids=repr)
def test_a_rule_with_a_wait_that_is_none_is_refused(given: Any) -> None:
    """What a person writes into a rule is checked at once."""
    with pytest.raises(ValueError, match="retry_after must be a time in seconds"):
        errors.register(KeyError, category=Category.EXTERNAL, retry_after=given)
