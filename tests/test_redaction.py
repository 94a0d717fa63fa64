"""Secrets do not survive redaction, whatever surrounds them, and no text makes it slow."""

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from resilient_agents.redaction import MASK, redact

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


ATTACKS = (
    "a", "secret", "secret-", "passwd", "authorization", "eyJ-", "sk-", "bearer ", "1(1", "12", "1-", "\\",
    "@", "a@", "a.a", "://a:", "://@", "ab ://", "-----BEGIN A", "token='", 'token="', "password\\", "=", "'",
    "1 ", "+", "-", "_", "a-authorization", "token:AA",
)  # fmt: skip


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
