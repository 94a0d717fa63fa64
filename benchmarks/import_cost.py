"""What an import costs: CPU milliseconds over a bare interpreter, beside packages that do a similar job.

Each sample is a fresh interpreter; the subjects take turns, so that a busy moment of the machine hits them
all alike. CPU time is what the kernel charged that one process (user and system, see getrusage(2)). The
minimum is the cost itself, the median what a noisy machine makes of it.

    python benchmarks/import_cost.py [--rounds 30] [--json FILE] [--plot FILE.svg]
"""

import argparse
import json
import os
import platform
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

GOAL_MS = 35.0
BARE = "pass"
SUBJECTS = (
    "import resilient_agents",
    "from resilient_agents import retry",
    "import tenacity",
    "import stamina",
    "import httpx",
)


class Cost(NamedTuple):
    """What a statement costs over a bare interpreter, in CPU milliseconds."""

    statement: str
    minimum: float
    median: float


def cpu_ms(statement: str) -> float:
    """Return the CPU time of a fresh interpreter that runs *statement*."""
    child = os.posix_spawn(sys.executable, [sys.executable, "-I", "-c", statement], os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{sys.executable} cannot run: {statement}")
    return 1000 * (usage.ru_utime + usage.ru_stime)


def measure(rounds: int) -> list[Cost]:
    """Return the cost of every subject that is installed; the first round only warms up."""
    installed = [subject for subject in SUBJECTS if find_spec(subject.split()[1])]
    samples: dict[str, list[float]] = {statement: [] for statement in (BARE, *installed)}
    for statement in samples:
        cpu_ms(statement)
    for _ in range(rounds):
        for statement, taken in samples.items():
            taken.append(cpu_ms(statement))
    bare = samples.pop(BARE)
    return [
        Cost(
            statement=subject,
            minimum=round(min(taken) - min(bare), 2),
            median=round(statistics.median(taken) - statistics.median(bare), 2),
        )
        for subject, taken in samples.items()
    ]


def table(costs: list[Cost]) -> str:
    """Return *costs* as a Markdown table, with the goal below."""
    rows = [f"| `{cost.statement}` | {cost.minimum:.1f} | {cost.median:.1f} |" for cost in costs]
    verdict = "met" if costs[0].minimum <= GOAL_MS else "missed"
    return "\n".join(
        [
            "| statement | minimum, CPU ms | median, CPU ms |",
            "|---|--:|--:|",
            *rows,
            f"\ngoal for `{costs[0].statement}`: {GOAL_MS:.0f} ms, {verdict}",
        ]
    )


def plot(costs: list[Cost], path: Path) -> None:
    """Draw *costs* as bars, the goal as a line."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.5 * len(costs) + 1.2), layout="constrained")
    bars = axes.barh([cost.statement for cost in costs], [cost.minimum for cost in costs])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.axvline(GOAL_MS, linestyle="--", color="grey")
    axes.invert_yaxis()
    axes.set_xlabel(f"CPU ms over a bare interpreter (minimum); dashed: goal of {GOAL_MS:.0f} ms")
    figure.savefig(path)


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30, help="samples of each statement (default: 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw them, as .svg or .png")
    options = parser.parse_args()

    costs = measure(options.rounds)
    print(table(costs))
    if options.json:
        where = {"python": platform.python_version(), "machine": platform.platform(), "cpus": os.cpu_count()}
        figures = {"rounds": options.rounds, "goal_ms": GOAL_MS, "costs": [cost._asdict() for cost in costs]}
        options.json.write_text(json.dumps(where | figures, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(costs, options.plot)


if __name__ == "__main__":
    main()
