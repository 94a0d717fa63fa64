"""What is kept of one action: snapshots that nobody can change, ids in order, and no secrets."""

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilient_agents.activity.entry import (
    LONGEST_LABEL,
    MOST_REMEMBERED,
    TICKS,
    Activity,
    Clerk,
    is_harmless,
    snapshot,
    uuid7,
)
from resilient_agents.redaction import redact

NOON = 1_767_225_600 * TICKS


class Explosive:
    """An object of which nothing can be asked."""

    def __repr__(self) -> str:
        raise ValueError("boom")

    __str__ = __hash__ = __eq__ = __getattr__ = __repr__  # type: ignore[assignment, misc]


class ExplosiveMapping(Mapping[str, Any]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> Any:
        raise ValueError("boom")

    def __iter__(self) -> Iterator[str]:
        raise ValueError("boom")

    def __len__(self) -> int:
        raise ValueError("boom")


def deep(levels: int) -> Any:
    """Return a list in a list in a list."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


circular: dict[str, Any] = {}
circular["self"] = circular

HOSTILE: list[Any] = [
    {"object": object()},
    {1: "int key", (1, 2): "tuple key", None: "no key"},
    {"surrogate": "\ud800"},
    {"big": 2**70, "huge": 10**5000},
    circular,
    {"explosive": Explosive()},
    {"number": float("nan"), "endless": float("inf")},
    {"bytes": b"\xff\x00", "view": memoryview(b"x"), "array": bytearray(b"y")},
    {"decimal": Decimal("1.10"), "day": date(2026, 1, 1), "set": {1, 2}},
    {"error": ValueError("no")},
    {"deep": deep(3000)},
    {"nul": "a\0b", "backslash": "\\u0000"},
    ExplosiveMapping(),
    ["not", "a", "mapping"],
    "a text",
    7,
]


def kept(metadata: Any = None, **fields: Any) -> Activity:
    """Return what is kept of an action."""
    given = {"action": "deal.updated", "organization": None, "agent": None, "status": "ok", **fields}
    copy = snapshot((*given.values(), None, None, None, metadata))
    return Clerk("here").activity(NOON, {"organization_id": "1", "request_id": "r"}, copy)


@pytest.mark.parametrize("metadata", HOSTILE)
def test_hostile_payloads(metadata: Any) -> None:
    """Whatever metadata is, it is recorded, as a JSON object that every database takes."""
    text = kept(metadata).metadata
    assert isinstance(json.loads(text), dict)
    text.encode()
    assert "\0" not in json.dumps(list(json.loads(text).values()), ensure_ascii=False)
    for nothing in ("NaN", "Infinity"):
        assert f":{nothing}" not in text


def test_nul_is_replaced_and_its_spelling_is_not() -> None:
    """PostgreSQL takes no NUL; a text that only looks like one stays as it is."""
    told = {"nul": "a\0b\\\0", "spelled": "\\u0000"}
    assert {"nul": "a�b\\�", "spelled": "\\u0000"} == json.loads(kept(told).metadata)


def test_snapshot_is_a_copy() -> None:
    """What the caller changes afterwards does not change the record."""
    metadata: dict[str, Any] = {"stage": "won", "tags": ["a"]}
    copy = snapshot(("deal.updated", None, None, "ok", None, None, None, metadata))
    metadata["stage"] = "lost"
    metadata["tags"].append("b")
    assert {"stage": "won", "tags": ["a"]} == json.loads(Clerk("here").activity(NOON, {}, copy).metadata)


def test_fields() -> None:
    """An activity holds what was said, and else what was bound."""
    entry = kept({"stage": "won"}, agent="42")
    assert ("here", "1", "42", "deal.updated", "ok", None, "r", None) == entry[1:9]
    assert (None, None, '{"stage":"won"}', NOON / TICKS) == entry[9:]
    assert "2" == kept(organization="2").organization_id
    assert "{}" == kept().metadata


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (7, "7"),
        ("a\0b\ud800", "a�b�~b26ff35fc392cc70"),
        ("x" * 1000, "x" * (LONGEST_LABEL - 17) + "~9a306b894c158617"),
        (["list"], "['list']"),
        ("https://user:secret@crm", "https://***@crm"),
    ],
)
def test_names_of_all_kinds(label: Any, told: str) -> None:
    """Ids and actions become short texts that every database takes."""
    assert told == kept(action=label).action


def test_two_organisations_stay_two() -> None:
    """What is cut short, or has letters replaced, is told apart by the rest."""
    names = ["x" * 1000, "x" * 1001, "a\0", "a\1", "a�"]

    labels = {kept(organization=name).organization_id for name in names}

    assert len(names) == len(labels)
    assert all(len(label) <= LONGEST_LABEL and label.isprintable() for label in labels)


def test_clerk_forgets() -> None:
    """What the clerk knows by heart has a bound."""
    clerk = Clerk("here")
    for number in range(2 * MOST_REMEMBERED + 5):
        clerk.activity(
            NOON, {}, snapshot((f"a{number}", "1", None, "ok", None, None, None, {f"k{number}": 1}))
        )
    assert len(clerk._labels) <= MOST_REMEMBERED
    assert len(clerk._open_keys) <= MOST_REMEMBERED


def test_secrets_are_taken_out() -> None:
    """Secrets are masked by key and by form, at any depth, also when the clerk has seen the key before."""
    planted = "sk-live1234567890abcdef"
    clerk = Clerk("here")
    for metadata in (
        {"note": "fine"},
        {"note": f"use {planted}"},
        {"api_key": "hunter2hunter2"},
        {"deep": {"a": {"b": {"c": {"d": {"password": "hunter2hunter2"}}}}}},
        {"list": [{"token": "hunter2hunter2"}]},
    ):
        copy = snapshot(("a", "1", None, "ok", None, None, None, metadata))
        text = clerk.activity(NOON, {}, copy).metadata
        assert planted not in text
        assert "hunter2" not in text


SECRETS = [
    "Bearer abcdef123456",
    "basic dXNlcjpwYXNz",
    "eyJhbGciOiJI.eyJzdWIiOiIx.c2ln",
    "sk-abcdefgh12345678",
    "xoxb_12345678",
    "1234567890:AAabcdefghijklmnopqrstuvwxyz",
    "postgres://user:secret@host/db",
    "password=hunter2",
    "authorization: whatever",
    "ann@example.com",
    "+7 916 000-00-00",
    "89160000000",
    "-----BEGIN RSA PRIVATE KEY-----abc",
    "[SQL: SELECT 1]",
    "[parameters (1)]",
    "failing row contains (1, 2)",
    "Failing Row Contains (1, 2)",
    "DETAIL: Key (a)=(b)",
]


@given(st.text(max_size=40), st.sampled_from(SECRETS), st.text(max_size=40))
@example("", "ſk-abcdefgh12345678", "")
@example("", "baſic dXNlcjpwYXNz", "")
def test_glance_misses_no_secret(before: str, secret: str, after: str) -> None:
    """What looks harmless at a glance is what redaction would leave alone."""
    for text in (f"{before}{secret}{after}", f"{before} {secret} {after}", before):
        if is_harmless(text):
            assert text == redact(text, limit=4000)


@given(st.lists(st.integers(0, 2**47 * 4096), min_size=2, max_size=20, unique=True))
def test_ids_are_in_the_order_of_time(ticks: list[int]) -> None:
    """Ids are UUIDv7 of RFC 9562, and sort as their moments do."""
    ids = [uuid7(tick, 2**62 - 1 if number % 2 else 0) for number, tick in enumerate(sorted(ticks))]
    assert sorted(ids) == ids
    for text, tick in zip(ids, sorted(ticks), strict=True):
        parsed = uuid.UUID(text)
        assert (7, uuid.RFC_4122, text) == (parsed.version, parsed.variant, str(parsed))
        assert tick >> 12 == parsed.int >> 80
