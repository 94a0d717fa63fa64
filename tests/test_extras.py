"""A missing extra is named with the command that installs it."""

import json
import sys
from pathlib import Path

import pytest

from resilient_agents._extras import MissingExtra, require


def test_an_installed_module_is_returned() -> None:
    """What is installed is imported and handed back."""
    assert json is require("json", extra="none", feature="Nothing")


def test_a_missing_package_is_named_with_the_command() -> None:
    """The message says what needs it, what is missing and what to type."""
    with pytest.raises(MissingExtra) as caught:
        require("no_such_package_of_ours.inner", extra="alerts", feature="The alert sink")
    assert (
        "The alert sink needs no_such_package_of_ours, which is not installed: "
        "run  pip install 'resilient-agents[alerts]'"
    ) == str(caught.value)
    assert caught.value.__suppress_context__


def test_a_missing_part_of_an_installed_package_is_named_exactly() -> None:
    """A package that is there is not called missing; its part is."""
    with pytest.raises(MissingExtra, match=r"needs json\.no_such_part, which"):
        require("json.no_such_part", extra="x", feature="It")


def test_a_broken_package_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that fails inside an installed package comes out as it is."""
    (tmp_path / "broken_package_of_ours.py").write_text("import no_such_package_of_ours\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError) as caught:
        require("broken_package_of_ours", extra="x", feature="It")
    assert "no_such_package_of_ours" == caught.value.name
    assert not isinstance(caught.value, MissingExtra)
    assert "broken_package_of_ours" not in sys.modules
