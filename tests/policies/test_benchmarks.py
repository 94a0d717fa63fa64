"""The benchmarks of the policies: they measure what they say; how fast that is, is not tested here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "benchmarks"


def run(script: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Run a benchmark for a moment; return what it prints, and the figures that it writes."""
    figures = folder / "figures.json"
    done = subprocess.run(
        [sys.executable, FOLDER / script, "--rounds", "1", "--json", figures],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout, json.loads(figures.read_text(encoding="utf-8"))


def measured(figures: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return what was measured, by scenario, mode and subject."""
    assert all(cost["nanoseconds"] > 0 for cost in figures["costs"])
    return {(cost["scenario"], cost["mode"], cost["subject"]) for cost in figures["costs"]}


def test_retries(tmp_path: Path) -> None:
    """Ours and the hand-written loop are measured in every scenario and mode, and the figures are written."""
    text, figures = run("retry_success_path.py", tmp_path)

    assert {
        (scenario, mode, subject)
        for scenario in ("success", "one failure", "three failures")
        for mode in ("sync", "async")
        for subject in ("@retry()", "@retry(deadline=None)", "hand-written loop")
    } <= measured(figures)
    assert "goal for `@retry()`, success: 1.6 x by hand" in text
    assert "goal for `@retry()`, one failure: 6.0 x by hand" in text


def test_policies(tmp_path: Path) -> None:
    """Ours and the yardsticks are measured in every scenario and mode, and what a crowd and failures cost."""
    text, figures = run("policies.py", tmp_path)

    assert {
        (scenario, mode, subject)
        for scenario, subjects in {
            "breaker, closed": ("CircuitBreaker()", "hand-written breaker"),
            "retry + breaker + budget": ("Pipeline(retry, breaker)", "hand-written loop"),
            "pipeline of six": ("Pipeline of six policies", "undecorated"),
        }.items()
        for mode in ("sync", "async")
        for subject in subjects
    } <= measured(figures)
    assert 0 < figures["crowd_microseconds"]["p50"] <= figures["crowd_microseconds"]["p99"]
    assert 0 <= figures["growth_kib"]
    assert "goal for pipeline of six, async: 3.00 µs over the bare call" in text


def test_observability(tmp_path: Path) -> None:
    """A repeated failure and a log line are measured beside their peers."""
    text, figures = run("observability.py", tmp_path)

    assert {
        (scenario, "sync", subject)
        for scenario, subjects in {
            "a repeated failure": ("raise and catch", "sentry.capture(), held back", "capture_exception()"),
            "a log line": ("structlog, JSONRenderer", "configure(), redacted", "logging, json.dumps"),
        }.items()
        for subject in subjects
    } <= measured(figures)
    assert "goal for a failure that is held back: 2.00 µs" in text


def test_decisions(tmp_path: Path) -> None:
    """Decisions of every kind are measured beside a check by hand, and the figures are written."""
    text, figures = run("classify.py", tmp_path)

    assert {
        (scenario, "sync", subject)
        for scenario in (
            "a type seen before",
            "with attributes: SQLSTATE",
            "with a cause",
            "a type never seen",
        )
        for subject in ("classify()", "isinstance by hand")
    } <= measured(figures)
    assert "goal for a type seen before: 200 ns at most" in text
