"""The key of a call, made of its arguments: compiled once, at decoration.

A key looks like ``svc:{agent:42}``: the cache's prefix, and in braces the *body*. The braces are the hash
tag of Redis Cluster, so that everything derived from a key lives in the key's slot. There are no other
braces in it, whatever the arguments are.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from string import Formatter
from typing import Any, NamedTuple, TypeAlias

from resilient_agents.cache._arguments import Arguments
from resilient_agents.cache._spelling import ESCAPED, SMALL, Unfit, spell
from resilient_agents.errors import ConfigurationError
from resilient_agents.policies._functions import name_of

KeyOf: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], str]
"""What makes the key of a call from its positional and keyword arguments."""

BODY_LIMIT = 200
"""How many characters of a body are spelled out; a longer one ends in a hash of all of it."""

READABLE = 64
"""How many characters of a long body stay readable."""

_ENTRY, _TAG, _LEASE = "}", "}:tag", ":lease"

_RESERVED = re.compile(r"[\x00-\x1f{}\x7f-\x9f\ud800-\udfff]")


class UnfitKey(TypeError):
    """An argument cannot be part of a key: another process could not spell it the same way.

    The message names the function, the argument and the type, never the value.
    """


def compile_key(
    fn: Callable[..., Any], template: str | None, *, prefix: str = "", tenant: str | None = None
) -> KeyOf:
    """Return what makes the keys of calls of *fn*.

    An argument given by position, by name or by default makes the same key. No two different calls make the
    same key, as far as the template names what tells them apart.

    Args:
        fn: The function, as it was written.
        template: The body, as ``"agent:{agent_id}"`` or ``"agent:{self.org_id}:{agent_id}"``. *None* makes
            it of the function's qualified name and all arguments.
        prefix: What every key of the cache begins with. The default is none.
        tenant: The name of the argument, or of an attribute of one, that every key must hold. The default
            is *None*: there need be none.

    Raises:
        ConfigurationError: The template is wrong, names no argument of *fn*, or leaves the tenant out; or
            *fn* is a method or nameless and there is no template.
    """
    return _compile(fn, template, prefix, _ENTRY, tenant)


def compile_tag(fn: Callable[..., Any], template: str, *, prefix: str = "") -> KeyOf:
    """Return what makes the key of a tag, such as ``"org:{org_id}"``, from a call of *fn*.

    Args:
        fn: The function, as it was written.
        template: The tag, by the rules of keys.
        prefix: What every key of the cache begins with. The default is none.

    Raises:
        ConfigurationError: The template is wrong, or names no argument of *fn*.
    """
    return _compile(fn, template, prefix, _TAG, None)


def literal_key(body: str, *, prefix: str = "") -> str:
    """Return the key with this *body*, for example ``"agent:42"``.

    Args:
        body: What a template makes of its arguments. See `key_part` for values in it.
        prefix: What every key of the cache begins with. The default is none.

    Raises:
        ConfigurationError: The body is empty, or has a brace or a control character in it.
    """
    return _literal(body, prefix, _ENTRY)


def literal_tag(body: str, *, prefix: str = "") -> str:
    """Return the key of the tag with this *body*, for example ``"org:1"``.

    Args:
        body: What a template makes of its arguments. See `key_part` for values in it.
        prefix: What every key of the cache begins with. The default is none.

    Raises:
        ConfigurationError: The body is empty, or has a brace or a control character in it.
    """
    return _literal(body, prefix, _TAG)


def key_part(value: Any) -> str:
    """Return *value* as it stands in a key: text without ``:``, braces or spaces, different for each value.

    Raises:
        UnfitKey: The value cannot be part of a key.
    """
    try:
        return spell(value)
    except Unfit as exc:
        raise UnfitKey(f"{exc} cannot be part of a cache key: give an id instead") from None


def lease_key(key: str) -> str:
    """Return the key of the lease on filling *key*. In a Redis Cluster it has the same slot."""
    return key + _LEASE


class _Field(NamedTuple):
    """One argument in a key: the text before it, its place, and its name with the attributes to follow."""

    before: str
    place: int
    path: tuple[str, ...]


def _compile(
    fn: Callable[..., Any], template: str | None, prefix: str, end: str, tenant: str | None
) -> KeyOf:
    begin = _begin(prefix)
    arguments = Arguments(fn)
    read = _automatic if template is None else _parsed
    fields, after = read(template or "", fn, arguments.places)
    if tenant is not None and all(field.path[-1] != tenant for field in fields):
        raise ConfigurationError(
            f"every key of this cache is made of {tenant!r}, and that of {name_of(fn)} is not: "
            f"give the function this argument and name {{{tenant}}} in the template"
        )
    if not fields:
        return _of_none(_literal(after, prefix, end), arguments)
    fields[0] = fields[0]._replace(before=begin + fields[0].before)
    parts = [_part(field, name_of(fn), field.path[-1] == tenant) for field in fields]
    shape = _Shape(len(begin), after + end, end)
    if len(fields) == 1 and len(fields[0].path) == 1:
        return _of_one(fields[0], parts[0], shape, arguments)
    return _of_many(fields, parts, shape, arguments)


def _part(field: _Field, name: str, required: bool) -> Callable[[Any], str]:
    """Return what spells the argument of *field*, and says which one it was when it cannot."""
    argument, *attributes = field.path

    def part(value: Any) -> str:
        try:
            for attribute in attributes:
                value = getattr(value, attribute)
            if required and (value is None or (isinstance(value, str) and not value)):
                raise Unfit("an empty tenant")
            return spell(value)
        except (Unfit, AttributeError) as exc:
            found = exc if isinstance(exc, Unfit) else f"no {'.'.join(attributes) or 'value in a field'}"
            raise UnfitKey(
                f"the argument {argument!r} of {name} is or has {found}, of which no cache key can be made: "
                "pass an id, or name in a template what tells calls apart"
            ) from None

    return part


class _Shape(NamedTuple):
    """Where the body of a key begins, what follows the last argument, and what follows the body."""

    begin: int
    after: str
    end: str

    @property
    def limit(self) -> int:
        """How long a key may be."""
        return self.begin + BODY_LIMIT + len(self.end)

    def shortened(self, key: str) -> str:
        """Return *key* with the rest of its body replaced by a hash of the whole."""
        body = key[self.begin : -len(self.end)]
        digest = blake2b(body.encode(), digest_size=20).hexdigest()
        return f"{key[: self.begin + READABLE]}~{digest}{self.end}"


def _of_none(key: str, arguments: Arguments) -> KeyOf:
    """Return what gives every call the same key, as long as it can be called like that."""

    def key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        arguments.values(args, kwargs)
        return key

    return key_of


def _of_one(field: _Field, part: Callable[[Any], str], shape: _Shape, arguments: Arguments) -> KeyOf:
    """Return what makes keys of one argument; text and numbers are spelled on the spot, being the rule."""
    before, place, _ = field
    after, limit, count, values = shape.after, shape.limit, arguments.count, arguments.values

    def key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        value = args[place] if len(args) == count and not kwargs else values(args, kwargs)[place]
        kind = type(value)
        if kind is str and value.isalnum():
            key = f"{before}{value}{after}"
        elif kind is int and -SMALL < value < SMALL:
            key = f"{before}#{value}{after}"
        else:
            key = f"{before}{part(value)}{after}"
        return key if len(key) <= limit else shape.shortened(key)

    return key_of


def _of_many(
    fields: Sequence[_Field], parts: Sequence[Callable[[Any], str]], shape: _Shape, arguments: Arguments
) -> KeyOf:
    plan = [
        (before, place, len(path) == 1, part)
        for (before, place, path), part in zip(fields, parts, strict=True)
    ]
    after, limit, count, values = shape.after, shape.limit, arguments.count, arguments.values

    def key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        given = args if len(args) == count and not kwargs else values(args, kwargs)
        key = ""
        for before, place, bare, part in plan:
            value = given[place]
            kind = type(value)
            if kind is str and bare and value.isalnum():
                key += f"{before}{value}"
            elif kind is int and bare and -SMALL < value < SMALL:
                key += f"{before}#{value}"
            else:
                key += f"{before}{part(value)}"
        key += after
        return key if len(key) <= limit else shape.shortened(key)

    return key_of


def _automatic(_: str, fn: Callable[..., Any], places: Mapping[str, int]) -> tuple[list[_Field], str]:
    """Return the fields of a key that holds all arguments."""
    name = name_of(fn)
    if not hasattr(fn, "__qualname__") or "<lambda>" in name:
        raise ConfigurationError("a function without a name needs a template for its cache keys")
    if "self" in places:
        raise ConfigurationError(
            f"{name} is a method: give it a template that says what tells its objects apart, such as "
            "'agent:{self.org_id}:{agent_id}', or leaves self out if all of them give the same answers"
        )
    fields = [
        _Field(f"{',' if place else f'{name}('}{parameter}=", place, (parameter,))
        for parameter, place in places.items()
    ]
    return fields, ")" if fields else f"{name}()"


def _parsed(template: str, fn: Callable[..., Any], places: Mapping[str, int]) -> tuple[list[_Field], str]:
    """Return the fields of *template* and the text after the last."""
    wrong = f"the cache key template {template!r} of {name_of(fn)}"
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as exc:
        raise ConfigurationError(f"{wrong} cannot be read: {exc}") from None
    fields: list[_Field] = []
    after = ""
    for before, field, form, conversion in pieces:
        if "~" in before or _RESERVED.search(before):
            raise ConfigurationError(f"{wrong} has a brace, a ~ or a control character outside of a field")
        if field is None:
            after = before
            continue
        path = tuple(field.split("."))
        if form or conversion or not all(name.isidentifier() for name in path):
            raise ConfigurationError(f"{wrong} may hold {{name}} and {{name.attribute}} only, not {field!r}")
        if path[0] not in places:
            raise ConfigurationError(f"{wrong} names {path[0]!r}, which is no argument of the function")
        if fields and not (before and ESCAPED.match(before) and before[0] != "%"):
            raise ConfigurationError(
                f"{wrong} needs a separator such as ':' or '/' before {{{field}}}, so that no two calls "
                "make one key"
            )
        fields.append(_Field(before, places[path[0]], path))
    return fields, after


def _begin(prefix: str) -> str:
    """Return what stands before the body of every key."""
    if _RESERVED.search(prefix):
        raise ConfigurationError(f"the prefix {prefix!r} of a cache has a brace or a control character in it")
    return f"{prefix}:{{" if prefix else "{"


def _literal(body: str, prefix: str, end: str) -> str:
    if not body or _RESERVED.search(body):
        raise ConfigurationError(
            "a cache key or tag is not empty, and has no brace and no control character in it: "
            "put values into it with key_part()"
        )
    begin = _begin(prefix)
    shape = _Shape(len(begin), end, end)
    key = begin + body + end
    return key if len(key) <= shape.limit else shape.shortened(key)
