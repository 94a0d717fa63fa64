"""What is around a stored value: when it was made, until when it is good, of which schema, whether whole.

=======  =====  ====================================================================
offset   bytes  what
=======  =====  ====================================================================
0        4      ``rac`` and the version of this layout
4        4      CRC-32 of all that follows
8        1      flags: how the value is written, whether compressed, whether encrypted
9        3      zeros
12       8      fingerprint of the schema
20       8, 8   created, soft expiry: seconds since the epoch
36       8, 4   hard expiry; seconds that loading took
48              the value
=======  =====  ====================================================================

All numbers are big-endian.
"""

import zlib
from struct import Struct
from typing import NamedTuple, Protocol

MAGIC = b"rac\x01"
HEADER = Struct(">4sIB3xQdddf")
CHECKED = 8
"""Where that begins of which the checksum is."""

COMPRESSED, ENCRYPTED, FORM = 0x10, 0x20, 0x0F

SIZE_LIMIT = 32 * 1024 * 1024
"""How many bytes a value may have, so that a small entry cannot be unpacked to any size."""


class Unreadable(Exception):
    """An entry that cannot be read: damaged, foreign, of another schema or for another key. It is a miss."""


class Header(NamedTuple):
    """What is known of an entry without reading its value.

    Attributes:
        created: When loading the value began, in seconds since the epoch.
        soft_expiry: Until when the value is fresh, in seconds since the epoch.
        hard_expiry: Until when the value may be used at all, in seconds since the epoch.
        cost: How long loading it took, in seconds.
    """

    created: float
    soft_expiry: float
    hard_expiry: float
    cost: float


class Cipher(Protocol):
    """What encrypts values, and binds each to where it is stored."""

    def encrypt(self, data: bytes, associated: bytes) -> bytes:
        """Return *data* encrypted, together with what it takes to notice another *associated*."""
        ...

    def decrypt(self, data: bytes, associated: bytes) -> bytes:
        """Return what was encrypted, or raise any exception where *data* or *associated* is another."""
        ...


def peek_header(data: bytes) -> Header:
    """Return the header of an entry; whether the entry is whole is not checked.

    Raises:
        Unreadable: This is no entry.
    """
    return Header(*_unpacked(data)[3:])


def _unpacked(data: bytes) -> tuple[int, int, int, float, float, float, float]:
    if len(data) < HEADER.size:
        raise Unreadable("no entry of this cache")
    magic, checksum, flags, schema, created, soft_expiry, hard_expiry, cost = HEADER.unpack_from(data)
    if magic != MAGIC or not created <= soft_expiry <= hard_expiry:
        raise Unreadable("no entry of this cache, or of another version of it")
    return checksum, flags, schema, created, soft_expiry, hard_expiry, cost


def seal(
    payload: bytes,
    form: int,
    schema: int,
    header: Header,
    key: str,
    *,
    cipher: Cipher | None,
    compress_over: int | None,
) -> bytes:
    """Return an entry with *payload* in it.

    Args:
        payload: The value, as bytes.
        form: How the value is written, 0 to 15.
        schema: The fingerprint of its schema.
        header: When it was made, and until when it is good.
        key: Where it is going to be stored.
        cipher: What encrypts it, or *None*.
        compress_over: Above which size in bytes it is compressed; *None* is never.
    """
    if compress_over is not None and len(payload) > compress_over:
        smaller = zlib.compress(payload, 1)
        if len(smaller) < len(payload):
            payload, form = smaller, form | COMPRESSED
    if cipher is not None:
        form |= ENCRYPTED
    checked = HEADER.pack(MAGIC, 0, form, schema, *header)[CHECKED:]
    if cipher is not None:
        payload = cipher.encrypt(payload, _associated(checked, key))
    checked += payload
    return b"%b%b%b" % (MAGIC, zlib.crc32(checked).to_bytes(4, "big"), checked)


def unseal(data: bytes, schema: int, key: str, *, cipher: Cipher | None) -> tuple[int, bytes]:
    """Return how the value of an entry is written, and its bytes.

    Args:
        data: The entry.
        schema: The fingerprint that it must have.
        key: Where it was stored.
        cipher: What it must be encrypted with; *None* if it must not be.

    Raises:
        Unreadable: The entry is damaged, or is of another schema, key or cipher.
    """
    checksum, flags, found, *_ = _unpacked(data)
    if found != schema:
        raise Unreadable("of another schema")
    if zlib.crc32(data[CHECKED:]) != checksum:
        raise Unreadable("damaged")
    payload = data[HEADER.size :]
    if flags & ~FORM == 0 and cipher is None:
        return flags, payload
    if bool(flags & ENCRYPTED) != (cipher is not None):
        raise Unreadable("encrypted, or not, unlike this cache")
    if cipher is not None:
        try:
            payload = cipher.decrypt(payload, _associated(data[CHECKED : HEADER.size], key))
        except Exception:
            raise Unreadable("encrypted with another key, or for another place") from None
    if flags & COMPRESSED:
        payload = _decompressed(payload)
    return flags & FORM, payload


def _associated(header: bytes, key: str) -> bytes:
    return header + key.encode("utf-8", "surrogatepass")


def _decompressed(data: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        payload = unpacking.decompress(data, SIZE_LIMIT)
    except zlib.error:
        raise Unreadable("damaged") from None
    if not unpacking.eof:
        raise Unreadable("truncated, or larger than a value may be")
    return payload
