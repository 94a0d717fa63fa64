"""The doors of the package: what `resilient_agents` offers, and that offering costs nothing."""

import ast
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import resilient_agents

PACKAGE = Path(resilient_agents.__file__).parent


def promised_to_type_checkers() -> dict[str, str]:
    """Return name → chapter of the imports under TYPE_CHECKING in the package's ``__init__``."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: (node.module or "").removeprefix("resilient_agents.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_every_door_is_listed() -> None:
    """`__all__` lists the doors, sorted, and nothing else."""
    assert sorted(resilient_agents._DOORS) == resilient_agents.__all__


def test_type_checkers_see_the_same_doors() -> None:
    """A type checker is told of every door and of the same module behind it."""
    assert promised_to_type_checkers() == resilient_agents._DOORS


@pytest.mark.parametrize("name", resilient_agents.__all__)
def test_door_opens(name: str) -> None:
    """Each door leads to the object of that name, which its chapter lists as public."""
    opened = getattr(resilient_agents, name)

    chapter = sys.modules[f"resilient_agents.{resilient_agents._DOORS[name]}"]
    assert getattr(chapter, name) is opened
    assert name in chapter.__all__


def test_unknown_name() -> None:
    """A name that is no door is an AttributeError which says so, as for any module."""
    with pytest.raises(AttributeError, match="module 'resilient_agents' has no attribute 'retri'"):
        _ = resilient_agents.retri


def test_dir_shows_closed_doors() -> None:
    """Completion in a shell offers every door, opened or not."""
    assert set(resilient_agents.__all__) <= set(dir(resilient_agents))


def test_version_is_that_of_the_distribution() -> None:
    """`__version__` is what pip installed."""
    assert version("resilient-agents") == resilient_agents.__version__


@pytest.mark.parametrize(
    "statement",
    [
        "import resilient_agents",
        "from resilient_agents import retry, classify, DeadLetterQueue",
        "from resilient_agents import *",
    ],
)
def test_no_third_party_package_is_loaded(
    statement: str, modules_loaded_by: Callable[[str], set[str]]
) -> None:
    """Importing the package, or opening its doors, loads the standard library and itself only."""
    packages = {name.partition(".")[0] for name in modules_loaded_by(statement)}
    of_this_build = {name for name in packages if name.startswith("_sysconfigdata")}

    assert {"resilient_agents"} == packages - sys.stdlib_module_names - of_this_build


def test_a_third_party_package_would_be_noticed(modules_loaded_by: Callable[[str], set[str]]) -> None:
    """The look at what an import loads does see a third-party package."""
    assert "tenacity" in modules_loaded_by("import resilient_agents, tenacity")
