"""Values that only those with the key can read, or make."""

import os
from base64 import b64decode
from binascii import Error
from hashlib import blake2b
from typing import Any

from resilient_agents._extras import require
from resilient_agents.errors import ConfigurationError

KEY_SIZE = 32

_SALT, _NONCE = blake2b.SALT_SIZE, 12
_VERSION = b"\x01"


class Encryption:
    """AES-256-GCM for cached values, bound to their keys: an entry under another key cannot be read.

    Each value is encrypted with a key of its own, derived by BLAKE2b from the secret and a random salt, as
    libsodium's ``crypto_kdf_blake2b`` does. So the limit of 2**32 values for one key of GCM (NIST SP 800-38D,
    8.3) is never near, however long a cache is written to. Needs the extra ``encryption``.

    Args:
        secret: 32 random bytes, or their base64 as text: ``openssl rand -base64 32``. What is written is
            encrypted with it.
        *older: Earlier secrets, with which entries may be read until they have expired.

    Raises:
        ConfigurationError: A secret is not 32 bytes.
        MissingExtra: ``cryptography`` is not installed.
    """

    def __init__(self, secret: str | bytes, *older: str | bytes) -> None:
        self._secrets = [_checked(each) for each in (secret, *older)]
        aead = require(
            "cryptography.hazmat.primitives.ciphers.aead",
            extra="encryption",
            feature="Encryption of the cache",
        )
        self._aead: Any = aead.AESGCM

    def __repr__(self) -> str:
        return f"<Encryption with {len(self._secrets)} secrets>"

    def encrypt(self, data: bytes, associated: bytes) -> bytes:
        """Return *data* encrypted, and bound to *associated*."""
        salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
        sealed: bytes = self._cipher(self._secrets[0], salt).encrypt(nonce, data, associated)
        return _VERSION + salt + nonce + sealed

    def decrypt(self, data: bytes, associated: bytes) -> bytes:
        """Return what was encrypted with one of the secrets.

        Raises:
            ValueError: It was not, or it was changed, or *associated* is another.
        """
        salt, rest = data[1 : 1 + _SALT], data[1 + _SALT :]
        if data[:1] != _VERSION or len(rest) < _NONCE:
            raise ValueError("not encrypted by this cache")
        for secret in self._secrets:
            try:
                opened: bytes = self._cipher(secret, salt).decrypt(rest[:_NONCE], rest[_NONCE:], associated)
            except Exception:  # noqa: S112  # whatever is wrong, an older secret may be the right one
                continue
            return opened
        raise ValueError("encrypted with another secret, changed, or moved from another key")

    def _cipher(self, secret: bytes, salt: bytes) -> Any:
        return self._aead(blake2b(key=secret, salt=salt, person=b"resilient.cache", digest_size=32).digest())


def _checked(secret: str | bytes) -> bytes:
    if isinstance(secret, str):
        try:
            secret = b64decode(secret, validate=True)
        except (Error, ValueError):
            secret = b""
    if len(secret) != KEY_SIZE:
        raise ConfigurationError(
            "a secret of Encryption is 32 random bytes or their base64: make one with openssl rand -base64 32"
        )
    return bytes(secret)
