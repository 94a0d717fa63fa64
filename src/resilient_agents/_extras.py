"""Load an optional dependency, or say which extra to install."""

from importlib import import_module
from types import ModuleType


class MissingExtra(ImportError):
    """A feature was used whose optional dependency is not installed."""


def require(module: str, *, extra: str, feature: str) -> ModuleType:
    """Import *module*, or say how to get it.

    Args:
        module: Dotted name of the third-party module.
        extra: Name of the extra of this package that brings it.
        feature: What needs it, in the user's words; the subject of the message.

    Returns:
        The imported module.

    Raises:
        MissingExtra: *module* is not installed. The message holds the pip command.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        package = module.partition(".")[0]
        if exc.name is None or exc.name.partition(".")[0] != package:
            raise
        raise MissingExtra(
            f"{feature} needs {exc.name}, which is not installed: "
            f"run  pip install 'resilient-agents[{extra}]'"
        ) from None
