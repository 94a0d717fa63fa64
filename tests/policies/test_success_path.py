"""The benchmark of retries that are not needed: it measures what it says; how fast is not tested here."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "retry_success_path.py"


def test_benchmark_reports_every_scenario(tmp_path: Path) -> None:
    """Ours and the hand-written loop are measured in every scenario and mode, and the figures are written."""
    figures = tmp_path / "figures.json"

    run = subprocess.run(
        [sys.executable, BENCHMARK, "--rounds", "1", "--json", figures],
        check=True,
        capture_output=True,
        text=True,
    )

    costs = json.loads(figures.read_text(encoding="utf-8"))["costs"]
    measured = {(cost["scenario"], cost["mode"], cost["subject"]) for cost in costs}
    assert {
        (scenario, mode, subject)
        for scenario in ("success", "one failure", "three failures")
        for mode in ("sync", "async")
        for subject in ("@retry()", "@retry(deadline=None)", "hand-written loop")
    } <= measured
    assert all(cost["nanoseconds"] > 0 for cost in costs)
    assert "goal for `@retry()`, success: 1.6 x by hand" in run.stdout
