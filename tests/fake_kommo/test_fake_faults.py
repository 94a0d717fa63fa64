"""The fault script: what is a fault, and whom it meets."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.errors import ValidationFailed
from resilient_agents.testing.fake_kommo.faults import KINDS, Fault, Script, load_faults, parse_faults

LEADS = "/api/v4/leads"


def kinds(script: Script, calls: int, path: str = LEADS, method: str = "POST") -> list[str | None]:
    """Return what so many calls in a row meet."""
    met = [script.pick(method, path) for _ in range(calls)]
    return [None if fault is None else fault.kind for fault in met]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_written_and_read(kind: str) -> None:
    """A fault of every kind survives JSON."""
    fault = Fault(kind=kind, seconds=0.5, calls=(1, 3), method="POST", times=2, probability=0.5, route="/x*")
    assert fault == Fault.from_json(json.loads(json.dumps(fault.to_json())))


@pytest.mark.parametrize("commit", [True, "late"])
def test_commit_survives_json(commit: Any) -> None:
    """Both ways to commit are written and read."""
    fault = Fault(kind="504", seconds=1, commit=commit)
    assert fault == Fault.from_json(fault.to_json())


def test_defaults_are_not_written() -> None:
    """JSON holds only what differs from the defaults."""
    assert {"kind": "drop"} == Fault(kind="drop").to_json()


def test_json_may_say_it_shorter() -> None:
    """A status may be a number, and a single call need not be a list."""
    assert Fault(kind="504", calls=(3,)) == Fault.from_json({"kind": 504, "calls": 3})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "must be an object with a 'kind'"),
        ({}, "'kind' is missing"),
        ({"kind": "flood"}, "'kind' must be one of latency, hang"),
        ({"kind": 418}, "'kind' must be one of"),
        ({"kind": "drop", "chance": 1}, "'chance' is unknown; known are kind, route"),
        ({"kind": "drop", "route": ""}, "'route' must be a string"),
        ({"kind": "drop", "method": "post"}, "'method' must be one of GET"),
        ({"kind": "drop", "calls": 0}, "'calls' must be call numbers from 1"),
        ({"kind": "drop", "calls": ["1"]}, "'calls' must be call numbers from 1"),
        ({"kind": "drop", "probability": 0}, "'probability' must be over 0"),
        ({"kind": "drop", "probability": 1.1}, "'probability' must be over 0"),
        ({"kind": "drop", "times": 0}, "'times' must be a whole number from 1"),
        ({"kind": "drop", "seconds": "1"}, "'seconds' must be a number of seconds"),
        ({"kind": "drop", "commit": "soon"}, "'commit' must be true, false"),
        ({"kind": "hang"}, "'seconds' must be over 0 for a hang"),
        ({"kind": "reset", "commit": True}, "'commit' does not go with reset"),
        ({"kind": "504", "commit": "late"}, "'commit' can be \"late\" only with seconds"),
        ({"kind": "latency", "seconds": 1, "commit": "late"}, "'commit' can be \"late\" only"),
    ],
)
def test_what_is_no_fault_is_refused(document: Any, message: str) -> None:
    """The message names the field and what it may be."""
    with pytest.raises(ValidationFailed, match=message):
        Fault.from_json(document)


def test_a_script_names_the_wrong_item(tmp_path: Path) -> None:
    """In a list the message counts to the wrong item, and the location holds its position."""
    with pytest.raises(ValidationFailed, match=r"fault script, item 1: fault: 'kind' is missing") as caught:
        parse_faults([{"kind": "drop"}, {}])
    assert (1, "kind") == caught.value.errors[0]["loc"]
    with pytest.raises(ValidationFailed, match="must be a JSON list"):
        parse_faults({"kind": "drop"})


def test_a_script_is_read_from_a_file(tmp_path: Path) -> None:
    """A file holds a JSON list of faults."""
    file = tmp_path / "faults.json"
    file.write_text('[{"kind": 503, "times": 2}]')
    assert [Fault(kind="503", times=2)] == load_faults(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"[", "is not JSON"), (b"\xff", "is not JSON")],
)
def test_a_bad_file_is_explained(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A file that is missing or is no JSON is told apart."""
    file = tmp_path / "faults.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValidationFailed, match=message):
        load_faults(file)


def test_calls_are_counted_over_matching_requests() -> None:
    """Only requests that match route and method are counted."""
    script = Script([Fault(kind="drop", route="/api/v4/leads*", method="POST", calls=(2,))], seed=0)
    assert [None] == kinds(script, 1)
    assert [None, None] == kinds(script, 2, method="GET")
    assert [None, None] == kinds(script, 2, path="/api/v4/account")
    assert ["drop", None] == kinds(script, 2, path="/api/v4/leads/complex")


def test_a_fault_happens_so_many_times_at_most() -> None:
    """After *times* it is spent."""
    assert ["500", "500", None] == kinds(Script([Fault(kind="500", times=2)], seed=0), 3)


def test_the_first_fault_that_is_due_happens() -> None:
    """Every fault counts every call, but only one happens, and the others are not spent by it."""
    script = Script(
        [Fault(kind="500", calls=(1,)), Fault(kind="502", times=1), Fault(kind="503", calls=(3,))], 0
    )
    assert ["500", "502", "503", None] == kinds(script, 4)


def test_probability_is_about_right() -> None:
    """A fault with a chance of 0.3 meets about three calls of ten."""
    met = kinds(Script([Fault(kind="drop", probability=0.3)], seed=1), 2000)
    assert 500 < met.count("drop") < 700


@given(
    seed=st.integers(0, 2**32),
    calls=st.lists(st.sampled_from([LEADS, f"{LEADS}/complex", "/api/v4/account"]), max_size=40),
)
def test_the_same_seed_and_requests_meet_the_same_faults(seed: int, calls: list[str]) -> None:
    """Chance is repeatable."""
    faults = [Fault(kind="500", probability=0.3), Fault(kind="drop", probability=0.5, route="*complex")]
    first, second = (Script(faults, seed) for _ in range(2))
    assert [first.pick("POST", path) for path in calls] == [second.pick("POST", path) for path in calls]


def test_other_seeds_meet_other_faults() -> None:
    """The seed matters."""
    faults = [Fault(kind="drop", probability=0.5)]
    assert kinds(Script(faults, seed=1), 64) != kinds(Script(faults, seed=2), 64)
