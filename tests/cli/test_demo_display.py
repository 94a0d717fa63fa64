"""What the demo shows, for people and for programs."""

import json

import pytest

from resilient_agents.cli.app import exit_status
from resilient_agents.cli.demo import display
from resilient_agents.cli.demo.ledger import Result
from resilient_agents.cli.demo.scenario import Scenario
from resilient_agents.cli.demo.trial import Progress

GOOD = Result(
    accepted=4, delivered=4, lost=0, duplicated=0, waiting=0, restarts=1, ack_p50_ms=2.5, ack_p95_ms=9.0
)
BAD = Result(
    accepted=4, delivered=3, lost=1, duplicated=2, waiting=1, restarts=1, ack_p50_ms=None, ack_p95_ms=None
)
SCENARIO = Scenario(leads=4, kills=1, seed=9)


def test_json_holds_the_seed_and_both_results() -> None:
    """One object with the documented names, and no others."""
    told = json.loads(display.as_json({"naive": BAD, "library": GOOD}, SCENARIO))

    assert ["seed", "library", "naive"] == list(told)
    assert 9 == told["seed"]
    assert {
        "accepted": 4,
        "delivered": 4,
        "lost": 0,
        "duplicated": 0,
        "restarts": 1,
        "ack_p50_ms": 2.5,
        "ack_p95_ms": 9.0,
    } == told["library"]
    assert told["naive"]["ack_p50_ms"] is None


def test_table_is_plain_in_a_pipe() -> None:
    """The figures stand side by side, without colour."""
    table = display.as_table({"naive": BAD, "library": GOOD}, SCENARIO)

    assert "\x1b" not in table
    assert "4 leads, 1 kills, seed 9" in table
    (lost,) = [line for line in table.splitlines() if " lost " in line]
    assert ["lost", "1", "0"] == lost.replace("│", " ").split()


@pytest.mark.parametrize(
    ("given_up", "drained", "label"),
    [("naive", "library", "naive"), ("library", "naive", "resilient-agents")],
)
def test_leads_that_still_wait_are_remarked_upon(given_up: str, drained: str, label: str) -> None:
    """A service that was given up is named; one that drained is not."""
    (remark,) = display.remarks({given_up: BAD, drained: GOOD})

    assert remark.startswith(f"{label}: stopped while 1 leads still waited")


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_terminal_gets_colours_unless_it_wants_none(
    no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR is obeyed (no-color.org); a loss is red otherwise."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)

    table = display.as_table({"naive": BAD, "library": GOOD}, SCENARIO)

    assert coloured == ("\x1b[1;31m1" in table)


def test_progress_in_a_pipe_is_a_line_a_trial(capsys: pytest.CaptureFixture[str]) -> None:
    """A log file is not filled with bars, and standard output stays clean."""
    with display.board(SCENARIO) as watch:
        for name in ("naive", "library"):
            watch(name)(Progress(sent=4, acknowledged=3, delivered=2, kills=1))
    out, err = capsys.readouterr()

    assert "" == out
    assert [
        "naive: 4 leads, 1 kills, seed 9",
        "resilient-agents: 4 leads, 1 kills, seed 9",
    ] == err.splitlines()


def test_progress_in_a_terminal_is_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each count has a bar that moves."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with display.board(SCENARIO) as watch:
        watch("library")(Progress(sent=4, acknowledged=3, delivered=2, kills=1))
    out, err = capsys.readouterr()

    assert "" == out
    assert "resilient-agents: delivered" in err
    assert "2/4" in err


def test_exit_status_tells_whether_the_library_kept_its_promise() -> None:
    """Zero needs every lead delivered once by the library; what the naive intake did is no matter."""
    assert 0 == exit_status({"naive": BAD, "library": GOOD}, SCENARIO)
    assert 1 == exit_status({"naive": GOOD, "library": BAD}, SCENARIO)
