"""The benchmark of the cache: it measures what it says; how fast that is, is not tested here."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cache.py"
RAW, BARE, OURS = "GET + json.loads", "undecorated", "Cache"


def test_every_goal_is_measured(tmp_path: Path) -> None:
    """Ours and the yardstick are measured wherever there is a goal, and the figures are written."""
    path = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--rounds", "1", "--alone", "--json", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(path.read_text(encoding="utf-8"))

    assert {
        (scenario, mode, subject)
        for scenario, modes, yardstick in (
            ("hit in Redis", ("sync", "async"), RAW),
            ("50 callers", ("async",), RAW),
            ("hit in memory", ("sync", "async"), BARE),
            ("Redis away", ("sync", "async"), BARE),
            ("Redis away, 50 callers", ("async",), BARE),
        )
        for mode in modes
        for subject in (OURS, yardstick)
    } <= {(it["scenario"], it["mode"], it["subject"]) for it in figures["figures"]}
    assert all(0 < it["cpu_microseconds"] and 0 < it["microseconds"] for it in figures["figures"])
    both = {(OURS, mode) for mode in ("sync", "async")}
    assert both <= {(it["subject"], it["mode"]) for it in figures["hangs"]}
    assert both <= {(it["subject"], it["mode"]) for it in figures["herds"] if it["processes"] == 1}
    assert both <= {(it["subject"], it["mode"]) for it in figures["herds"] if it["processes"] == 4}
    assert all(0 < it["loads"] for it in figures["herds"])
    assert 13 == done.stdout.count("goal for ")
