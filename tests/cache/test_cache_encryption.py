"""Encryption: an entry can be read with the secret, under its key, and as a whole."""

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.cache.codec import Codec, Unreadable
from resilient_agents.cache.encryption import Encryption
from resilient_agents.errors import ConfigurationError

OLD, NEW = bytes(32), b"\x01" * 32
KEY = "svc:{agent:42}"


def stored(codec: Codec, value: object = "what nobody may read") -> bytes:
    """Return *value* as an entry."""
    return codec.encode(value, KEY, created=1.0, soft_expiry=2.0, hard_expiry=3.0)


@given(st.binary(max_size=100), st.binary(max_size=20))
def test_what_is_encrypted_can_be_decrypted(data: bytes, associated: bytes) -> None:
    """Data comes back as they were, with nothing of them in sight, and never the same twice."""
    cipher = Encryption(NEW)
    first, second = (cipher.encrypt(data, associated) for _ in range(2))

    assert data == cipher.decrypt(first, associated) == cipher.decrypt(second, associated)
    assert first != second
    assert len(data) < 8 or data not in first


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda data: b"\x01" + data))
def test_other_bytes_cannot_be_decrypted(data: bytes) -> None:
    """What was not encrypted is an error that says so."""
    with pytest.raises(ValueError, match="encrypted"):
        Encryption(NEW).decrypt(data, b"")


def test_entries_cannot_be_swapped() -> None:
    """The entry of one key, put under another by whoever can write to the store, is a miss."""
    codec = Codec(cipher=Encryption(NEW))

    assert "what nobody may read" == codec.decode(stored(codec), KEY)
    with pytest.raises(Unreadable, match="another key, or for another place"):
        codec.decode(stored(codec), "svc:{agent:43}")


def test_times_cannot_be_changed() -> None:
    """An entry is not made to live longer by whoever can write to the store."""
    import zlib

    codec = Codec(cipher=Encryption(NEW))
    entry = bytearray(stored(codec))
    entry[36] ^= 0x10
    entry[4:8] = zlib.crc32(entry[8:]).to_bytes(4, "big")

    with pytest.raises(Unreadable, match="another key"):
        codec.decode(bytes(entry), KEY)


def test_nothing_is_in_sight() -> None:
    """The store sees nothing of a value."""
    assert b"nobody" not in stored(Codec(cipher=Encryption(NEW)))
    assert b"nobody" in stored(Codec())


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        (Codec(), Codec(cipher=Encryption(NEW))),
        (Codec(cipher=Encryption(NEW)), Codec()),
        (Codec(cipher=Encryption(OLD)), Codec(cipher=Encryption(NEW))),
        (Codec(cipher=Encryption(NEW, OLD)), Codec(cipher=Encryption(OLD))),
    ],
)
def test_other_secrets_are_a_miss(writer: Codec, reader: Codec) -> None:
    """What was not encrypted with this secret is not believed; plain entries neither."""
    with pytest.raises(Unreadable, match="encrypted"):
        reader.decode(stored(writer), KEY)


def test_secrets_are_changed_without_a_cold_cache() -> None:
    """What was written with the old secret is read as long as it is given."""
    before, after = Codec(cipher=Encryption(OLD)), Codec(cipher=Encryption(NEW, OLD))

    assert "x" == after.decode(stored(before, "x"), KEY)
    assert "x" == after.decode(stored(after, "x"), KEY)


def test_secret_as_text() -> None:
    """A secret may come from the environment, as base64."""
    cipher = Encryption(base64.b64encode(NEW).decode())

    assert b"x" == Encryption(NEW).decrypt(cipher.encrypt(b"x", b""), b"")


@pytest.mark.parametrize(
    "secret", [b"", b"short", "", "no base64!", "é", base64.b64encode(b"short").decode()]
)
def test_secrets_have_a_size(secret: str | bytes) -> None:
    """A secret of another size is refused at once, and not shown."""
    with pytest.raises(ConfigurationError, match="32 random bytes") as caught:
        Encryption(NEW, secret)
    assert not secret or str(secret) not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    """What a debugger or a log shows of it holds no secret."""
    assert "<Encryption with 2 secrets>" == repr(Encryption(NEW, OLD))


def test_loaded_when_used(modules_loaded_by: Callable[[str], set[str]]) -> None:
    """The library behind it is not loaded with the module."""
    assert "cryptography" not in modules_loaded_by("import resilient_agents.cache.encryption")
