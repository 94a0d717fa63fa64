"""The account as a whole: its log, its file, its control addresses, and what faults do to requests."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient_agents._clock import SystemClock, use_clock
from resilient_agents.errors import NotFound, ValidationFailed
from resilient_agents.testing.fake_kommo.control import control
from resilient_agents.testing.fake_kommo.faults import Fault
from resilient_agents.testing.fake_kommo.playback import play
from resilient_agents.testing.fake_kommo.store import Store

LEADS = "/api/v4/leads"


def names(ask: Any) -> list[str]:
    """Return the names of all stored leads."""
    return [lead["name"] for lead in ask.account.leads()]


# ---------------------------------------------------------------- faults


def befall(ask: Any, fault: Fault) -> Any:
    """Let *fault* happen to a request that creates the lead "x", and return the answer."""
    return play(ask.account, fault, ask.request("POST", LEADS, [{"name": "x"}]))


@pytest.mark.parametrize("kind", ["hang", "drop", "500", "502", "504"])
@pytest.mark.parametrize(("commit", "stored"), [(False, []), (True, ["x"])])
def test_commit_says_whether_a_failed_write_was_executed(
    ask: Any, clock: Any, kind: str, commit: bool, stored: list[str]
) -> None:
    """The client sees the same failure either way, after the same time."""
    before = clock.time()
    answer = befall(ask, Fault(kind=kind, seconds=5, commit=commit))
    assert (stored, 5) == (names(ask), clock.time() - before)
    assert (kind if kind.isdigit() else None) == (answer and str(answer.status))


@pytest.mark.parametrize("kind", ["refuse", "reset", "503", "429", "html"])
def test_some_faults_never_execute(ask: Any, kind: str) -> None:
    """Nothing is stored when the request never got through."""
    befall(ask, Fault(kind=kind, seconds=1))
    assert [] == names(ask)


@pytest.mark.parametrize("kind", ["latency", "truncate", "drip"])
def test_some_faults_always_execute(ask: Any, kind: str) -> None:
    """What is delivered late or badly was executed all the same."""
    assert 200 == befall(ask, Fault(kind=kind, seconds=1)).status
    assert ["x"] == names(ask)


@pytest.mark.parametrize(("commit", "stored_after"), [(True, 0), (False, 5)])
def test_latency_executes_before_or_after_the_wait(
    ask: Any, clock: Any, commit: bool, stored_after: int
) -> None:
    """With commit a write is stored at once and answered later; without, both happen later."""
    before = clock.time()
    befall(ask, Fault(kind="latency", seconds=5, commit=commit))
    (lead,) = ask.account.leads()
    assert (stored_after, 5) == (lead["stored_at"] - before, clock.time() - before)


def test_a_hang_may_commit_at_its_end(ask: Any, clock: Any) -> None:
    """A late commit happens when the client has long gone."""
    before = clock.time()
    befall(ask, Fault(kind="hang", seconds=30, commit="late"))
    (lead,) = ask.account.leads()
    assert 30 == lead["stored_at"] - before


def test_a_reset_forgets_late_commits(ask: Any, clock: Any) -> None:
    """A write that is still on its way when the account is reset does not come through to the next test."""
    request = ask.request("POST", LEADS, [{"name": "x"}])
    generation = ask.account.generation
    ask.account.reset()
    ask.account.execute(request, generation=generation)
    assert [] == names(ask)


def test_commits_pass_the_rate_but_not_the_token(build: Callable[..., Any]) -> None:
    """A fault that commits executes whatever the rate says; a wrong token still stops it."""
    ask = build(rate=1)
    ask("GET", LEADS)
    befall(ask, Fault(kind="504", commit=True))
    assert ["x"] == names(ask)
    ask.account.switch({"token": "other"})
    befall(ask, Fault(kind="504", commit=True))
    assert ["x"] == names(ask)


def test_faults_speak_like_the_vendor(build: Callable[..., Any]) -> None:
    """429 and 500 are JSON, the gateway's errors are pages, and html is a page with 200."""
    ask = build(retry_after=2)
    told = {kind: befall(ask, Fault(kind=kind)) for kind in ("429", "500", "502", "503", "504", "html")}
    assert {
        "429": (429, "application/problem+json"),
        "500": (500, "application/problem+json"),
        "502": (502, "text/html"),
        "503": (503, "text/html"),
        "504": (504, "text/html"),
        "html": (200, "text/html"),
    } == {kind: (answer.status, answer.content_type) for kind, answer in told.items()}
    assert b'"retry_after":2' in told["429"].body
    assert b'"trace_id":' in told["500"].body
    assert b'"type":' not in told["500"].body


# ---------------------------------------------------------------- log and reset


def test_every_request_is_logged_with_its_fault(build: Callable[..., Any], clock: Any) -> None:
    """The log has a line for each request from the moment it comes."""
    ask = build(faults=[Fault(kind="drop", calls=(1,))])
    first, line = ask.account.receive(ask.request("POST", LEADS))
    assert (Fault(kind="drop", calls=(1,)), None) == (first, line["status"])
    second, line = ask.account.receive(ask.request("GET", LEADS))
    line["status"] = 204
    assert second is None
    common = {"at": clock.time(), "path": LEADS}
    assert [
        {**common, "method": "POST", "status": None, "fault": "drop"},
        {**common, "method": "GET", "status": 204, "fault": None},
    ] == ask.account.requests()
    assert {"none": 1, "204": 1} == ask.account.statuses()


def test_reset_goes_back_to_the_beginning(build: Callable[..., Any]) -> None:
    """Records, log, switches and script are as at the start; a spent fault is fresh again."""
    ask = build(faults=[Fault(kind="drop", times=1)])
    request = ask.request("GET", LEADS)
    assert [True, False] == [ask.account.receive(request)[0] is not None for _ in range(2)]
    ask("POST", LEADS, [{}])
    ask("POST", f"{LEADS}/custom_fields", [{"name": "x", "type": "text"}])
    ask.account.switch({"paid": False})
    ask.account.script([])
    ask.account.reset()
    assert ([], [], True) == (ask.account.leads(), ask.account.requests(), ask.account.switches().paid)
    assert 204 == ask("GET", f"{LEADS}/custom_fields").status
    assert ask.account.receive(request)[0] is not None


def test_many_threads_lose_nothing(build: Callable[..., Any]) -> None:
    """Batches of many threads are all stored, each lead under an id of its own."""
    ask = build()

    def post() -> None:
        for _ in range(20):
            assert 200 == ask("POST", f"{LEADS}/complex", [{"name": "x"}] * 5).status

    with use_clock(SystemClock()):
        threads = [threading.Thread(target=post) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 800 == len({lead["id"] for lead in ask.account.leads()})


# ---------------------------------------------------------------- the file


def test_records_outlive_the_process_in_a_file(build: Callable[..., Any], tmp_path: Path) -> None:
    """A new account on the same file has the old records and goes on numbering after them."""
    file = tmp_path / "kommo.jsonl"
    first = build(data=file)
    options = [{"value": "S"}]
    first("POST", f"{LEADS}/custom_fields", [{"name": "Size", "type": "select", "enums": options}])
    first("POST", f"{LEADS}/complex", [{"name": "a", "_embedded": {"contacts": [{"name": "Ann"}]}}])
    second = build(data=file)
    assert first.account.leads() == second.account.leads()
    assert first("GET", f"{LEADS}/custom_fields") == second("GET", f"{LEADS}/custom_fields")
    second("POST", LEADS, [{"name": "b"}])
    assert ["a", "b"] == names(build(data=file))
    assert 2 == len({lead["id"] for lead in second.account.leads()})
    assert 0o600 == file.stat().st_mode & 0o777


def test_a_batch_that_was_cut_short_is_dropped(build: Callable[..., Any], tmp_path: Path) -> None:
    """A kill in the middle of a write leaves the batches before it, and room for the next one."""
    file = tmp_path / "kommo.jsonl"
    build(data=file)("POST", LEADS, [{"name": "a"}])
    with file.open("ab") as opened:
        opened.write(b'[["leads",{"id":10000002,"na')
    ask = build(data=file)
    ask("POST", LEADS, [{"name": "b"}])
    assert ["a", "b"] == names(build(data=file))


def test_reset_empties_the_file(build: Callable[..., Any], tmp_path: Path) -> None:
    """After a reset a new account on the file is empty too."""
    file = tmp_path / "kommo.jsonl"
    ask = build(data=file)
    ask("POST", LEADS, [{"name": "a"}])
    ask.account.reset()
    assert [] == names(build(data=file))


def test_text_that_is_not_unicode_is_stored_all_the_same(build: Callable[..., Any], tmp_path: Path) -> None:
    """Half a surrogate pair, which JSON allows, breaks neither answers nor the file."""
    ask = build(data=tmp_path / "kommo.jsonl")
    assert 200 == ask("POST", LEADS, rb'[{"name":"\ud800"}]').status
    assert 200 == ask("GET", LEADS).status
    assert 1 == len(Store(tmp_path / "kommo.jsonl").all("leads"))


# ---------------------------------------------------------------- control


def test_control_tells_the_truth(ask: Any) -> None:
    """Leads and requests are told with their count."""
    ask("POST", LEADS, [{"name": "a"}])
    ask.account.receive(ask.request("GET", LEADS))
    told = control(ask.account, "GET", "/_fake/leads")
    assert (1, "a") == (told["count"], told["leads"][0]["name"])
    told = control(ask.account, "GET", "/_fake/requests")
    assert (1, "GET") == (told["count"], told["requests"][0]["method"])
    assert {"none": 1} == control(ask.account, "GET", "/_fake/statuses")


def test_control_changes_what_will_happen(ask: Any) -> None:
    """Script and switches are replaced, told, and reset."""
    script = [{"kind": "503", "times": 1}]
    assert script == control(ask.account, "POST", "/_fake/script", script)
    assert script == control(ask.account, "GET", "/_fake/script")
    assert 5 == control(ask.account, "POST", "/_fake/switches", {"rate": 5})["rate"]
    assert 5 == control(ask.account, "GET", "/_fake/switches")["rate"]
    assert control(ask.account, "POST", "/_fake/reset") is None
    assert [] == control(ask.account, "GET", "/_fake/script")


def test_control_refuses_what_it_does_not_know(ask: Any) -> None:
    """Unknown addresses and wrong bodies are told apart, and nothing changes."""
    with pytest.raises(NotFound, match="it has GET /_fake/leads"):
        control(ask.account, "GET", "/_fake/contacts")
    with pytest.raises(ValidationFailed, match="must be a JSON object"):
        control(ask.account, "POST", "/_fake/switches", [])
    with pytest.raises(ValidationFailed, match="item 0"):
        control(ask.account, "POST", "/_fake/script", [{}])


def test_late_commits_do_not_keep_the_client_waiting(ask: Any, held: Any) -> None:
    """A dropped connection is dropped at once; the write comes through later."""
    befall(ask, Fault(kind="drop", seconds=5, commit="late"))
    (late,) = [thread for thread in threading.enumerate() if thread.name == "late-commit"]
    assert [] == names(ask)
    held.end_a_wait()
    late.join(60)
    assert (["x"], [5]) == (names(ask), held.sleeps)
