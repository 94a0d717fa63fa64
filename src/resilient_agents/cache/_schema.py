"""What a value is by its annotation: how pydantic reads it, which classes are in it, its fingerprint."""

import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from enum import Enum
from hashlib import blake2b
from inspect import isclass, unwrap
from json import dumps
from types import SimpleNamespace, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints, is_typeddict

UNKNOWN: Any = object()
"""The annotation of a value of which nothing is known."""


class Schema(NamedTuple):
    """What is known of a value in advance.

    Attributes:
        from_json: pydantic's reader of JSON.
        adapter: pydantic's ``TypeAdapter``, or *None*.
        classes: The classes that the annotation names, deep down too, by name.
        fingerprint: 64 bits that differ where the schema does; 0 where nothing is known.
        lack: Why nothing is known, in words, or nothing.
    """

    from_json: Callable[[bytes], Any]
    adapter: Any
    classes: dict[str, type]
    fingerprint: int
    lack: str = ""


def returned(fn: Callable[..., Any]) -> Any:
    """Return the annotation of what *fn* returns, or `UNKNOWN`; the other annotations are left alone.

    Raises:
        Exception: The annotation is a text that names what is not there at run time.
    """
    fn = unwrap(fn)
    annotations = getattr(fn, "__annotations__", {})
    if "return" not in annotations:
        return UNKNOWN
    only = SimpleNamespace(__annotations__={"return": annotations["return"]})
    return get_type_hints(only, getattr(fn, "__globals__", {}), include_extras=True)["return"]


def schema_of(annotation: Any) -> Schema:
    """Return what *annotation* says of a value. pydantic is loaded here, when it is first needed."""
    from pydantic_core import from_json

    if annotation is UNKNOWN or annotation is Any or annotation is object:
        return Schema(
            from_json, None, {}, 0, "nothing is known of its type: annotate what the function returns"
        )
    from pydantic import TypeAdapter

    named = [*_named(annotation)]
    classes = {_name(kind): kind for kind in named if _is_restored(kind)}
    # A list and a tuple have one JSON schema.
    names = " ".join(map(_name, named))
    try:
        adapter = TypeAdapter(annotation)
        text = _json_schema(adapter)
    except Exception:
        # Where pydantic has no schema, the annotation's own words have to do.
        words = _digest(_words(annotation) + names)
        return Schema(from_json, None, classes, words, "pydantic makes nothing of its annotation")
    return Schema(from_json, adapter, classes, _digest(text + names))


def _json_schema(adapter: Any) -> str:
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        """Leave out a default that JSON has no word for, without a warning."""

        def emit_warning(self, kind: Any, detail: str) -> None: ...

    return dumps(_bare(adapter.json_schema(schema_generator=Quiet)), sort_keys=True)


def _bare(node: Any) -> Any:
    """Return a JSON schema without its prose, and with sets in an order that is the same in each process."""
    if isinstance(node, list):
        return [_bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    bare = {
        name: _bare(item)
        for name, item in node.items()
        if not (name in {"title", "description"} and isinstance(item, str))
    }
    if node.get("uniqueItems") and isinstance(bare.get("default"), list):
        bare["default"].sort(key=dumps)
    return bare


def _words(annotation: Any) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(annotation))


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _named(annotation: Any) -> Iterator[type]:
    """Yield the classes that *annotation* names, deep down too, in an order of its own."""
    seen: list[Any] = [Union, UnionType]
    todo = [annotation]
    while todo:
        item = todo.pop()
        if any(item is other for other in seen):
            continue
        seen.append(item)
        todo += [get_origin(item), getattr(item, "__value__", None), *get_args(item)]
        if isclass(item):
            yield item
            todo += _within(item)


def _is_restored(kind: type) -> bool:
    """Tell whether objects of a class can be made of what is in them."""
    return hasattr(kind, "model_fields") or is_dataclass(kind) or issubclass(kind, Enum | tuple)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _within(kind: Any) -> Iterator[Any]:
    """Yield the annotations of the parts of a class."""
    if hasattr(kind, "model_fields"):
        yield from (field.annotation for field in kind.model_fields.values())
    elif is_dataclass(kind) or hasattr(kind, "_fields") or is_typeddict(kind):
        try:
            yield from get_type_hints(kind).values()
        except (NameError, TypeError):
            return
