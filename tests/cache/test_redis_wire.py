"""The bytes that go to Redis and come from it."""

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.cache._redis_wire import Garbage, PlainReader, Refusal, pack, reader

ANSWERS = st.recursive(
    st.none() | st.binary(max_size=40) | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def spoken(answer: Any) -> bytes:
    """Return the bytes of an answer."""
    if answer is None:
        return b"$-1\r\n"
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, bytes):
        return b"$%d\r\n%b\r\n" % (len(answer), answer)
    return b"*%d\r\n" % len(answer) + b"".join(map(spoken, answer))


@pytest.mark.parametrize("make", [reader, PlainReader])
@given(answers=st.lists(ANSWERS, max_size=5), cuts=st.lists(st.integers(1, 9)))
def test_answers_come_out_whole(make: Any, answers: list[Any], cuts: list[int]) -> None:
    """Whatever the pieces in which bytes arrive, the answers are those that were sent."""
    data, it, heard = b"".join(map(spoken, answers)), make(), []
    for size in [*cuts, len(data) + 1]:
        it.feed(data[:size])
        data = data[size:]
        while (answer := it.gets()) is not False:
            heard.append(answer)

    assert answers == heard
    assert not it.has_data()


@pytest.mark.parametrize("make", [reader, PlainReader])
@pytest.mark.parametrize(
    "nonsense",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x01\x02\r\n", b":12a\r\n", b"$3\r\nabcdef\r\n", b"*x\r\n"],
)
def test_nonsense_is_reported(make: Any, nonsense: bytes) -> None:
    """What is no answer of a Redis is not waited for."""
    it = make()
    it.feed(nonsense)

    with pytest.raises(Garbage):
        list(iter(it.gets, False))


@pytest.mark.parametrize("make", [reader, PlainReader])
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        ("ERR Error running script (call to f_0): @user_script:2: -READONLY You can't write", "READONLY"),
        ("@user_script: 4: -OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        ("ERR unknown command", "ERR"),
        ("no code at all", "ERR"),
        ("", "ERR"),
    ],
)
def test_errors_are_told_by_their_code(make: Any, text: str, code: str) -> None:
    """An error of Redis is its code; its text, which may hold a value, is dropped."""
    it = make()
    it.feed(f"+fine\r\n-{text}\r\n*-1\r\n".encode())
    fine, error, nothing = it.gets(), it.gets(), it.gets()

    assert (b"fine", None) == (fine, nothing)
    assert isinstance(error, Refusal)
    assert (code, code) == (error.code, str(error))


def test_answers_do_not_nest_without_end() -> None:
    """Nesting cannot exhaust the stack."""
    it = PlainReader()
    it.feed(b"*1\r\n" * 1000)

    with pytest.raises(Garbage):
        it.gets()


def test_hiredis_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hiredis the answers are read by Python alone."""
    monkeypatch.setitem(sys.modules, "hiredis", None)

    assert PlainReader is type(reader())


def test_commands_are_packed() -> None:
    """Texts, bytes and numbers go out as RESP2 demands; half a surrogate pair is a text too."""
    assert b"*3\r\n$3\r\nSET\r\n$2\r\n\x00\xff\r\n$1\r\n7\r\n" == pack("SET", b"\x00\xff", 7)
    assert b"*1\r\n$3\r\n\xed\xa0\x80\r\n" == pack("\ud800")
