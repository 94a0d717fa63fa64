"""Secrets do not survive redaction, whatever surrounds them, and no text makes it slow."""

import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from resilient_agents import redaction
from resilient_agents.redaction import MASK, redact, redact_mapping, redact_value

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
secrets = st.text(LETTERS, min_size=24, max_size=40)
FORMS = (
    "Authorization: Bearer {}",
    "Authorization: Token {}",
    "{{'authorization': 'Basic {}'}}",
    "bearer {}",
    "password={}",
    "password=basic{}",
    'password="two words {}"',
    "token: Bearer {}",
    '{{"access_token": "{}"}}',
    '{{\\"client_secret\\": \\"{}\\"}}',
    "https://x.example/?api_key={}&page=2",
    "X-Api-Key: {}",
    "{{'openai_key': '{}'}}",
    "OPENAI_KEY={}",
    "openaiKey: {}",
    "pwd={}",
    "Cookie: session={}",
    "sk-{}",
    "xoxb-{}",
    "ghp_{}",
    "eyJ{}.{}.x",
    "https://api.telegram.org/bot123456789:AA{}/sendMessage",
    "postgresql://crm:{}@db.example/crm",
    "redis://:p@{}@cache/0",
    "https://{}@github.com/acme/crm",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\n{}",
    "{}@example.com",
    "duplicate key\nDETAIL:  Key (email)=({}) already exists.",
    "DETAIL:  Failing row contains (1, {}, null).",
    "syntax error\nLINE 1: INSERT INTO leads VALUES ('{}')",
    "(sqlite3.IntegrityError) UNIQUE\n[SQL: INSERT INTO t VALUES (?)]\n[parameters: ('{}',)]",
)


@given(st.sampled_from(FORMS), secrets, st.text(max_size=40), st.text(max_size=40))
def test_a_secret_does_not_survive(form: str, secret: str, before: str, after: str) -> None:
    """No form of a secret comes through, whatever stands on either side of it."""
    assume(secret not in before + after)
    assert secret not in redact(f"{before} {form.format(secret, secret)} {after}")


@given(st.sampled_from(FORMS), secrets, st.integers(300, 520))
def test_a_secret_that_is_cut_in_two_does_not_survive(form: str, secret: str, filler: int) -> None:
    """The half of a secret in front of a cut is dropped: it no longer looks like one."""
    hidden = form.format(secret, secret)
    shown = redact("password=" + "z" * filler + " " + hidden + " " + "y " * 1000, limit=100)
    assert secret[:12] not in shown


ATTACKS = (
    "a", "secret", "secret-", "passwd", "authorization", "eyJ-", "sk-", "bearer ", "1(1", "12", "1-", "\\",
    "@", "a@", "a.a", "://a:", "://@", "ab ://", "-----BEGIN A", "token='", 'token="', "password\\", "=", "'",
    "1 ", "+", "-", "_", "a-authorization", "token:AA", "\n", "\t", "key (", "key ()=", "a-key", "cache_key",
    "aKey", "LINE 1", "[SQL:", "1111-11-11 ", "1111-",
)  # fmt: skip

PIECES = (
    *ATTACKS,
    "password", "Secret", "ToKen", "ſecret", "apı_key", "credentİal", "BearEr ", "Key (a)=", "DETAIL:",
    "1234567890", "٣٤٥٦٧٨٩٠١٢", "12:AA", "EYJabcdefgh.x", "SK-abcdefghijk", "[parameters:", "'", " ", "=",
    "x", "QUERY:", "my_key", "my-Key: ", "MY_KEY=", "myKey", '":',
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join))
def test_the_quick_look_misses_nothing(text: str) -> None:
    """A text that is passed unchanged because it has no hint of a secret is one that no pattern changes."""
    patterned = text
    for pattern, replacement in redaction._PATTERNS:
        patterned = pattern.sub(replacement, patterned)

    assert patterned == redact(text, limit=10_000)


@given(st.text(), st.integers(1, 600))
def test_the_result_is_never_longer_than_the_limit(text: str, limit: int) -> None:
    """The limit counts for every text."""
    assert len(redact(text, limit=limit)) <= max(limit, len(MASK))


@pytest.mark.parametrize(
    "text",
    [
        "Lead 12 was not found in pipeline 142",
        "HTTP 503 from acme.kommo.com after 3 attempts",
        "SQLITE_BUSY: database is locked",
        "the token is missing",
        "https://acme.kommo.com/api/v4/leads",
        "due 2026-11-25 08:00:00.123, made 2026-11-24, seen 2026-11-25T08:00:00Z",
        "monkey: 1, turkey=2, key=form-8731, idempotency_key=a, cacheKey: b",
        "UNIQUE constraint failed: leads.key (see the log for details)",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """What holds no secret is not masked."""
    assert text == redact(text)


@pytest.mark.parametrize("text", ["ann@example.com", "+1 (555) 010-99-88", "8 495 123 45 67"])
def test_people_are_masked(text: str) -> None:
    """E-mail addresses and phone numbers are somebody's."""
    assert f"write to {MASK} now" == redact(f"write to {text} now")


def test_what_stands_around_a_secret_remains() -> None:
    """The reader still sees where the secret was."""
    assert f"POST ?api_key={MASK}&page=2 failed" == redact("POST ?api_key=abcdef&page=2 failed")


def test_long_text_is_cut_with_a_mark() -> None:
    """The reader sees that something is missing."""
    assert "wor…" == redact("word " * 2, limit=4)
    assert redact("word " * 1000, limit=20).endswith("…")


@pytest.mark.parametrize("unit", ATTACKS)
def test_no_text_makes_it_slow(unit: str) -> None:
    """Text of the worst shape costs milliseconds: no pattern backtracks.

    Of this length it costs some 50; a pattern that backtracks, the square of the length, takes 12 seconds.
    """
    length = 50_000
    texts = [(unit * length)[: length - len(end)] + end for end in ("", "!", " x")]
    start = time.process_time()
    for text in texts:
        redact(text, limit=length)
    assert time.process_time() - start < 8


@dataclass
class Login:
    """Somebody's."""

    user: str
    password: str


class Connection(BaseModel):
    """A model."""

    host: str
    api_key: str


SHAPES: tuple[Any, ...] = (
    lambda secret: {"password": secret},
    lambda secret: {"user": {"credentials": {"anything": [secret]}}},
    lambda secret: {"headers": {"Authorization": f"Token {secret}", "Accept": "*/*"}},
    lambda secret: {"headers": [(b"x-api-key", secret.encode()), (b"accept", b"*/*")]},
    lambda secret: {"set-cookie": secret},
    lambda secret: [{"openaiKey": secret}, {"OPENAI_API_KEY": secret}, {"openai_key": secret}],
    lambda secret: {"crm_token_value": secret, "accessToken": [secret]},
    lambda secret: {"a": [{"b": ({"clientSecret": secret},)}]},
    lambda secret: Login("ann", secret),
    lambda secret: {"by": Connection(host="crm.test", api_key=secret)},
    lambda secret: ValueError(f"postgresql://crm:{secret}@db/crm"),
    lambda secret: json.dumps({"refresh_token": secret}),
    lambda secret: {"url": f"https://ann:{secret}@crm.test/x"},
    lambda secret: {1: {("a", "b"): f"Bearer {secret}"}},
    lambda secret: {f"Bearer {secret}": 1, ("password=" + secret,): 2},
    lambda secret: {"e-mail": secret, "userPhone": secret, "jwt": secret, "dbPwd": secret},
)


@given(st.sampled_from(SHAPES), secrets)
def test_a_secret_in_data_does_not_survive(shape: Any, secret: str) -> None:
    """Under a telling key, at any depth and in any kind of mapping, and by its form in any text."""
    assert secret not in json.dumps(redact_value(shape(secret)))


def test_texts_are_looked_at_anew_when_too_many_are_known() -> None:
    """What is remembered of clean texts does not grow for ever."""
    for number in range(2 * redaction._CLEAN_TEXTS):
        redact(f"text {number}")

    assert len(redaction._clean) <= redaction._CLEAN_TEXTS
    assert "text 1" == redact("text 1")


def test_data_without_secrets_is_left_alone() -> None:
    """Ids, counts and words that look a little like secrets stay, and what is absent is seen to be absent."""
    data = {
        "deal_id": "1234567890",
        "at": "2026-11-25 08:00:00",
        "max_tokens": 4096,
        "usage": {"total_tokens": 12.5},
        "idempotency_key": "form-8731",
        "key": "k",
        "monkey": "m",
        "author": "a",
        "password": None,
        "has_token": True,
        "list": [1, None, "two"],
    }

    assert data == redact_value(data)


def test_the_data_itself_is_not_changed() -> None:
    """What is redacted is a copy."""
    data = {"password": "p", "list": [{"token": "t"}]}

    assert {"password": MASK, "list": [{"token": MASK}]} == redact_mapping(data)
    assert {"password": "p", "list": [{"token": "t"}]} == data


def test_a_secret_that_the_cut_of_data_splits_does_not_survive() -> None:
    """Redaction looks beyond the cut, so that no half of a secret is left in front of it."""
    secret = "x7Kq9" * 8
    for room in range(10, 120):
        assert "x7Kq9" not in json.dumps(redact_value({"a": "y" * 40 + f" bearer {secret}"}, limit=room))


def test_a_mapping_that_cannot_be_read_is_said_so() -> None:
    """The answer is a dictionary all the same."""

    class Broken(dict[str, str]):
        def items(self) -> Any:
            raise RuntimeError

    assert {
        "value": "<test_a_mapping_that_cannot_be_read_is_said_so.<locals>.Broken that cannot be shown>"
    } == (redact_mapping(Broken()))


@given(st.uuids(), st.sampled_from(["{}", "job {} failed", "job-{}", "agent_{}", "/jobs/{}/log", "{}:1"]))
@example(UUID("796f2f9c-3712-4054-bb81-94442d4d04af"), "{}")
@example(UUID("00000000-0000-4000-8000-000000000000"), "{}")
def test_a_uuid_is_no_phone_number(identity: UUID, around: str) -> None:
    """The id of a job stays what it is, though there may be as many digits in it as in a phone number."""
    text = around.format(identity)

    assert text == redact(text)
    assert {"id": text} == redact_value({"id": text})


@given(secrets)
def test_a_key_that_is_a_secret_by_its_form_is_masked(secret: str) -> None:
    """A token is masked where it is the key of a mapping, too; the names of fields stay."""
    for form in ("sk_{}", "ghp_{}", "Bearer {}"):
        assert secret not in json.dumps(redact_value({"known": {form.format(secret): 1}}))
    assert {"known": {"lead_name": 1}} == redact_value({"known": {"lead_name": 1}})
