"""Values as bytes, and back as what they were: typed JSON in an envelope, without pickle."""

from collections.abc import Callable
from typing import Any

from resilient_agents.cache._envelope import SIZE_LIMIT, Cipher, Header, Unreadable, peek_header, seal, unseal
from resilient_agents.cache._readback import same
from resilient_agents.cache._schema import UNKNOWN, Schema, returned, schema_of
from resilient_agents.cache._tagged import Unfit, UnfitClass, is_plain, restored, tagged

__all__ = ["UNKNOWN", "Cipher", "Codec", "Header", "UnfitValue", "Unreadable", "peek_header"]

PLAIN, MODEL, TAGGED = 0, 1, 2
"""How a value is written: as JSON has it, as pydantic writes its annotation, with tags."""


class UnfitValue(TypeError):
    """A value that could not be restored as what it is, so it is not stored.

    The message says of which type it is or what it holds, never the value.
    """


class Codec:
    """Turns values into bytes and back.

    What is written has been read back once and compared, so that a hit never differs from a miss: equal, and
    of the same types all the way down. Three ways are tried:

    1. plain JSON, for what JSON restores by itself;
    2. the annotation, as pydantic reads and writes it;
    3. JSON with tags: tuples, sets, bytes, dates, `Decimal`, `UUID`, other keys than text, and objects of
       those enums, dataclasses, named tuples and models that the annotation names.

    Args:
        annotation: What the values are, as a type. The default is that nothing is known.
        cipher: What encrypts the values, bound to their keys. The default is *None*: they are not.
        compress_over: Size in bytes above which a value is compressed, by zlib. The default is *None*: none
            is.
    """

    def __init__(
        self, annotation: Any = UNKNOWN, *, cipher: Cipher | None = None, compress_over: int | None = None
    ) -> None:
        if compress_over is not None and compress_over < 0:
            raise ValueError("compress_over is a size in bytes, 0 or more")
        self._resolve: Callable[[], Any] = lambda: annotation
        self._cipher = cipher
        self._compress_over = compress_over
        self._schema: Schema | None = None

    @classmethod
    def of(
        cls,
        fn: Callable[..., Any],
        *,
        model: Any = UNKNOWN,
        cipher: Cipher | None = None,
        compress_over: int | None = None,
    ) -> "Codec":
        """Return the codec for what *fn* returns. Its annotation is looked up when it is first needed.

        Args:
            fn: The function, as it was written.
            model: What it returns, as a type. The default is what its annotation says.
            cipher: See `Codec`.
            compress_over: See `Codec`.
        """
        codec = cls(model, cipher=cipher, compress_over=compress_over)
        if model is UNKNOWN:
            codec._resolve = lambda: returned(fn)
        return codec

    @property
    def schema(self) -> Schema:
        """What is known of the values."""
        found = self._schema
        if found is None:
            try:
                found = schema_of(self._resolve())
            except Exception:
                found = schema_of(UNKNOWN)._replace(
                    lack="its annotation names what its module does not have at run time: give model="
                )
            self._schema = found
        return found

    def encode(
        self,
        value: Any,
        key: str,
        *,
        created: float,
        soft_expiry: float,
        hard_expiry: float,
        cost: float = 0.0,
    ) -> bytes:
        """Return *value* as an entry.

        Args:
            value: What to store; *None* too.
            key: Where it is going to be stored.
            created: When loading it began, in seconds since the epoch; the two others are not before it.
            soft_expiry: Until when it is fresh, in seconds since the epoch.
            hard_expiry: Until when it may be used at all, in seconds since the epoch.
            cost: How long loading it took, in seconds. The default is 0.0.

        Raises:
            UnfitValue: It could not be restored as what it is, or is larger than 32 MiB.
        """
        form, payload = self._written(value)
        if len(payload) > SIZE_LIMIT:
            raise UnfitValue(f"a value of {len(payload)} bytes is not cached: {SIZE_LIMIT} is the limit")
        header = Header(created, soft_expiry, hard_expiry, cost)
        schema = self.schema.fingerprint
        return seal(
            payload, form, schema, header, key, cipher=self._cipher, compress_over=self._compress_over
        )

    def decode(self, data: bytes, key: str) -> Any:
        """Return the value in an entry.

        Args:
            data: The entry, or anything else.
            key: Where it was stored.

        Raises:
            Unreadable: It cannot be read; nothing else is ever raised.
        """
        schema = self._schema or self.schema
        form, payload = unseal(data, schema.fingerprint, key, cipher=self._cipher)
        try:
            return schema.from_json(payload) if form == PLAIN else self._read(form, payload)
        except Exception:
            raise Unreadable("not what was written, or not by this version") from None

    def _read(self, form: int, payload: bytes) -> Any:
        if form == PLAIN:
            return self.schema.from_json(payload)
        if form == MODEL:
            return self.schema.adapter.validate_json(payload)
        if form == TAGGED:
            return restored(self.schema.from_json(payload), self.schema.classes)
        raise ValueError("an unknown form")

    def _written(self, value: Any) -> tuple[int, bytes]:
        """Return the first form that restores *value*, and its bytes."""
        lack = self.schema.lack
        why = "it is not quite what its annotation says"
        for form, write in ((PLAIN, self._plain), (MODEL, self._model), (TAGGED, self._tagged)):
            try:
                payload = write(value)
                if payload is not None and (form == PLAIN or same(self._read(form, payload), value)):
                    return form, payload
            except Unfit as exc:
                why = f"it is or holds {exc}"
                if isinstance(exc, UnfitClass):
                    why += f", and {lack}" if lack else ", which its annotation does not name"
            except Exception:  # noqa: S112  # pydantic's messages, and users' own, may quote the value
                continue
        kind = type(value)
        raise UnfitValue(
            f"a value of type {kind.__module__}.{kind.__qualname__} is not cached, because it would not come "
            f"back as what it is: {why}"
        )

    def _plain(self, value: Any) -> bytes | None:
        return _to_json(value) if is_plain(value) else None

    def _model(self, value: Any) -> bytes | None:
        adapter = self.schema.adapter
        if adapter is None:
            return None
        written: bytes = adapter.dump_json(value, by_alias=True, round_trip=True, warnings=False)
        return written

    def _tagged(self, value: Any) -> bytes | None:
        return _to_json(tagged(value, self.schema.classes))


def _to_json(tree: Any) -> bytes:
    from pydantic_core import to_json

    return to_json(tree, inf_nan_mode="constants")
