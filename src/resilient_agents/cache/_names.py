"""The names that one cache gives to keys and tags."""

from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from resilient_agents.cache.keys import KeyOf, compile_key, compile_tag, key_part, literal_key, literal_tag
from resilient_agents.errors import ConfigurationError
from resilient_agents.policies._functions import name_of


class Names:
    """The names of one cache.

    Args:
        prefix: What all of them begin with.
        tenant: The argument that every key must hold, or *None*.

    Raises:
        ConfigurationError: The prefix holds braces.
    """

    def __init__(self, prefix: str, tenant: str | None) -> None:
        literal_key("key", prefix=prefix)
        self.prefix = prefix
        self.tenant = tenant
        self._automatic: set[str] = set()
        self._tags: dict[str, tuple[str, ...]] = {}

    def of_calls(
        self, fn: Callable[..., Any], template: str | None, tags: Sequence[str]
    ) -> tuple[KeyOf, list[KeyOf]]:
        """Return what makes the keys of a cached function's calls, and the tags.

        Raises:
            ConfigurationError: A template is wrong, or another function has the name or the key already, such
                that what one of them keeps would mislead the other.
        """
        name = name_of(fn)
        if template is None and "<locals>" in name:
            if name in self._automatic:
                raise ConfigurationError(
                    f"two functions are called {name}, and would share their entries: give each a key"
                )
            self._automatic.add(name)
        if template is not None and self._tags.setdefault(template, tuple(tags)) != tuple(tags):
            raise ConfigurationError(
                f"two functions have the key {template!r} and different tags: what one of them keeps would "
                "not be invalidated by the tags of the other. Give them the same tags, or different keys"
            )
        return self.key_of(fn, template), self.tags_of(fn, tags)

    def key_of(self, fn: Callable[..., Any], template: str | None) -> KeyOf:
        """Return what makes a key of a function's arguments."""
        return compile_key(fn, template, prefix=self.prefix, tenant=self.tenant)

    def tags_of(self, fn: Callable[..., Any], tags: Sequence[str]) -> list[KeyOf]:
        """Return what make the names of tags of a function's arguments."""
        return [compile_tag(fn, tag, prefix=self.prefix) for tag in tags]

    def key(self, key: str, arguments: Mapping[str, object]) -> str:
        """Return the whole name of a key that is whole already, short, or a template with arguments."""
        if not arguments and key.startswith(f"{self.prefix}:{{") and key.endswith("}"):
            return key
        return literal_key(_filled(key, arguments), prefix=self.prefix)

    def tag(self, tag: str, arguments: Mapping[str, object]) -> str:
        """Return the whole name of a tag that is short, or a template with arguments."""
        return literal_tag(_filled(tag, arguments), prefix=self.prefix)


def _filled(template: str, arguments: Mapping[str, object]) -> str:
    """Return *template* with its arguments, spelled as in every key.

    Raises:
        ConfigurationError: An argument is missing or not named.
        UnfitKey: An argument cannot be part of a key.
    """
    if not arguments:
        return template
    parts, named = [], set()
    for before, field, _, _ in Formatter().parse(template):
        parts.append(before)
        if field is not None:
            if field not in arguments:
                raise ConfigurationError(f"the template {template!r} needs {field}=")
            parts.append(key_part(arguments[field]))
            named.add(field)
    if unknown := arguments.keys() - named:
        raise ConfigurationError(f"the template {template!r} does not name {', '.join(sorted(unknown))}")
    return "".join(parts)
