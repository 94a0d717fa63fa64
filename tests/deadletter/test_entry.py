"""What may be stored: any JSON mapping under a readable label, and nothing else."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_agents import DeadLetterQueue, Replayer
from resilient_agents.deadletter import State, Stats
from resilient_agents.deadletter.entry import KEY_LIMIT, NESTING_LIMIT, check_label, digest, encode
from resilient_agents.errors import ApiError, PayloadTooLarge, ValidationFailed

SECRET = "s3cret"
NO_LIMIT = 1 << 30

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
payloads = st.dictionaries(texts, json_values, max_size=3)


def nested(depth: int) -> dict[str, Any]:
    """Return a payload of *depth* levels."""
    value: Any = []
    for _ in range(depth - 2):
        value = [value]
    return {"v": value}


def endless() -> dict[str, Any]:
    """Return a payload that holds itself."""
    payload: dict[str, Any] = {SECRET: 1}
    payload["self"] = payload
    return payload


@settings(max_examples=60)
@given(payloads)
def test_round_trip(payload: dict[str, Any]) -> None:
    """Any JSON mapping is stored as it is, and known again whatever order its names come in."""
    data = encode(payload, limit=NO_LIMIT)
    turned = encode(dict(reversed(payload.items())), limit=NO_LIMIT)

    assert payload == json.loads(data)
    assert digest(data) == digest(turned)


def test_digest_tells_payloads_apart() -> None:
    """Payloads that are stored differently have different digests."""
    values: list[dict[str, Any]] = [
        {},
        {"a": 1},
        {"a": "1"},
        {"a": [1]},
        {"b": 1},
        {"a": None},
        {"a": 1, "b": 1},
    ]

    assert len(values) == len({digest(encode(value, limit=NO_LIMIT)) for value in values})


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({SECRET: float("nan")}, "holds NaN or infinity"),
        ({SECRET: float("-inf")}, "holds NaN or infinity"),
        ({SECRET: 10**5000}, "holds a number with too many digits"),
        ({"v": f"{SECRET}\ud800"}, "holds text that is not valid Unicode"),
        ({f"{SECRET}\udfff": 1}, "holds text that is not valid Unicode"),
        (endless(), "refers to itself"),
        (nested(NESTING_LIMIT + 1), "is nested too deeply"),
        (nested(100_000), "is nested too deeply"),
        ({"v": {SECRET}}, "cannot be stored as JSON: Object of type set is not JSON serializable"),
        ({"v": SECRET.encode()}, "cannot be stored as JSON: Object of type bytes is not JSON serializable"),
        ([SECRET], "cannot be stored as JSON: list is not a mapping"),
        (None, "cannot be stored as JSON: NoneType is not a mapping"),
    ],
)
def test_unfit_payload(payload: Mapping[str, Any], problem: str) -> None:
    """What JSON cannot hold is refused, with the reason and without the payload."""
    with pytest.raises(ValidationFailed) as caught:
        encode(payload, limit=NO_LIMIT)

    assert f"payload {problem}" == str(caught.value)
    assert ({"loc": ["payload"], "msg": problem, "type": "json"},) == caught.value.errors
    assert SECRET not in repr(caught.value.errors)


@pytest.mark.parametrize("name", [b"x", ("a", "b"), object()])
def test_unfit_name(name: object) -> None:
    """A name that is no text is refused, and the value beside it is not shown."""
    with pytest.raises(ValidationFailed, match="cannot be stored as JSON: keys must be") as caught:
        encode({name: SECRET}, limit=NO_LIMIT)  # type: ignore[dict-item]

    assert SECRET not in str(caught.value)


def test_deepest_payload_is_delivered(queue: DeadLetterQueue) -> None:
    """What is accepted can be read again: the deepest payload does not block its topic."""
    taken: list[Any] = []
    queue.handler("deep")(taken.append)
    queue.enqueue("deep", nested(NESTING_LIMIT))

    assert 1 == Replayer(queue).run_once().delivered
    assert [nested(NESTING_LIMIT)] == taken


def test_wide_payload_is_not_deep() -> None:
    """Many collections beside each other are no nesting, whatever they are."""
    payload = {"v": [[], {}, (), {"w": ()}] * NESTING_LIMIT}

    assert json.loads(json.dumps(payload)) == json.loads(encode(payload, limit=NO_LIMIT))


def test_payload_at_the_limit() -> None:
    """The limit counts bytes of JSON, and itself is allowed."""
    payload = {"v": "я"}

    assert b'{"v":"\xd1\x8f"}' == encode(payload, limit=10)
    with pytest.raises(PayloadTooLarge, match="payload has 10 bytes, and the limit is 9") as caught:
        encode(payload, limit=9)
    assert 413 == caught.value.status


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=KEY_LIMIT))
def test_good_label(label: str) -> None:
    """Any printable text of up to 200 characters is a label."""
    assert label == check_label(label, field="key")


@pytest.mark.parametrize("label", ["", "x" * (KEY_LIMIT + 1), "a\nb", "a\0", "\ud800", 7, None, b"x"])
def test_bad_label(label: object) -> None:
    """A label that cannot be read aloud is refused; the message names the field, not the label."""
    with pytest.raises(ValidationFailed) as caught:
        check_label(label, field="key")

    assert "key must be a printable text of 1 to 200 characters" == str(caught.value)
    assert ["key"] == caught.value.errors[0]["loc"]


@pytest.mark.parametrize("field", ["topic", "key", "ordering_key"])
def test_every_label_is_checked(queue: DeadLetterQueue, field: str) -> None:
    """Topic, key and ordering key are all checked before anything is stored."""
    arguments: dict[str, Any] = {"topic": "t", "key": "k", "ordering_key": "o", field: "a\x1bb"}

    with pytest.raises(ApiError, match=f"^{field} must be"):
        queue.enqueue(payload={}, **arguments)
    assert [] == queue.entries()


def test_waiting() -> None:
    """What is delivered or parked is not waiting."""
    states = dict.fromkeys(State, 1)

    assert 4 == Stats(states=states, oldest=None).waiting
