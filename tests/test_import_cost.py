"""What importing costs, told by the modules that are loaded: a clock would make these tests flaky."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import resilient_agents

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "import_cost.py"


def test_importing_the_package_loads_next_to_nothing(modules_loaded_by: Callable[[str], set[str]]) -> None:
    """The import brings `typing` and what `typing` needs, and none of the package's own chapters."""
    loaded = modules_loaded_by("import resilient_agents")

    assert {"resilient_agents"} == loaded - modules_loaded_by("import typing")


@pytest.mark.parametrize("name", resilient_agents.__all__)
def test_opening_a_door_loads_no_event_loop(name: str, modules_loaded_by: Callable[[str], set[str]]) -> None:
    """A program that never awaits does not pay for asyncio, whichever door it opens."""
    assert "asyncio" not in modules_loaded_by(f"from resilient_agents import {name}")


def test_benchmark_reports_every_subject(tmp_path: Path) -> None:
    """The benchmark measures the package and its peers, and writes the figures that it prints."""
    figures = tmp_path / "figures.json"

    run = subprocess.run(
        [sys.executable, BENCHMARK, "--rounds", "1", "--json", figures],
        check=True,
        capture_output=True,
        text=True,
    )

    costs = json.loads(figures.read_text(encoding="utf-8"))["costs"]
    statements = [cost["statement"] for cost in costs]
    assert {"import resilient_agents", "import tenacity", "import httpx"} <= set(statements)
    assert all(f"| `{statement}` |" in run.stdout for statement in statements)
