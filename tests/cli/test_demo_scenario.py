"""What happens in a demo: the same for the same seed, and hard enough."""

from typing import Any

import pytest

from resilient_agents.cli.demo.scenario import DEFAULT_FAULTS, Scenario
from resilient_agents.crm.kommo import NewLead
from resilient_agents.errors import ValidationFailed
from resilient_agents.testing import Fault
from resilient_agents.testing.fake_kommo.faults import KINDS


def test_same_seed_gives_the_same_leads_and_kills() -> None:
    """A demo can be repeated by its seed."""
    first, second = Scenario(seed=7), Scenario(seed=7)

    assert first.workload() == second.workload()
    assert first.schedule() == second.schedule()


def test_another_seed_gives_other_leads_and_kills() -> None:
    """Seeds differ in what they do."""
    first, second = Scenario(seed=7), Scenario(seed=8)

    assert first.workload() != second.workload()
    assert first.schedule() != second.schedule()


def test_leads_are_distinct_and_fit_for_kommo() -> None:
    """Each lead has a key of its own and passes the client's validation, so that only faults stop it."""
    leads = Scenario(leads=500).workload()

    assert 500 == len({lead.key for lead in leads})
    assert {lead.fields["name"] for lead in leads} == {NewLead(**lead.fields).name for lead in leads}


def test_leads_are_as_people_write_them() -> None:
    """Cyrillic, emoji, long names, tags and missing addresses are among them."""
    leads = [lead.fields for lead in Scenario(leads=200).workload()]
    text = " ".join(f"{lead['name']} {lead['contact']}" for lead in leads)

    assert "Кузнецова" in text
    assert "🚚" in text
    assert max(len(lead["name"]) for lead in leads) > 150
    assert {True, False} == {"email" in lead for lead in leads}
    assert {True, False} == {"tags" in lead for lead in leads}


def test_kills_are_spread_over_the_run() -> None:
    """Each kill waits for its own number of acknowledgements, and a moment more."""
    kills = Scenario(leads=300, kills=20).schedule()
    moments = [kill.after for kill in kills]

    assert sorted(set(moments)) == moments
    assert 20 == len(moments)
    assert all(0 < kill.delay < 0.5 for kill in kills)
    assert all(1 <= moment <= 300 for moment in moments)


def test_default_faults_are_of_every_kind() -> None:
    """Nothing that FakeKommo can do is left out; what may be committed is so at once, late and never."""
    assert set(KINDS) == {fault.kind for fault in DEFAULT_FAULTS}
    assert {False, True, "late"} == {fault.commit for fault in DEFAULT_FAULTS if fault.kind == "504"}
    assert {False, "late"} == {fault.commit for fault in DEFAULT_FAULTS if fault.kind == "hang"}
    assert {False, True} == {fault.commit for fault in DEFAULT_FAULTS if fault.kind == "drop"}


def test_grace_outlasts_the_latest_commit() -> None:
    """A lookup is believed only when nothing can arrive any more."""
    scenario = Scenario(faults=(Fault(kind="hang", seconds=7.0, commit="late"), Fault(kind="500")))

    assert 7.0 == scenario.settling
    assert scenario.grace > scenario.settling


def test_demo_without_faults_needs_no_settling() -> None:
    """Nothing arrives late where nothing fails."""
    assert 0.0 == Scenario(faults=()).settling


def test_leads_are_fewer_than_the_crm_takes() -> None:
    """The naive intake is not drowned: it could keep up, did nothing fail."""
    assert Scenario(rate=50).pace < 50


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ({"leads": 0}, "--leads"),
        ({"rate": 0}, "--rate"),
        ({"kills": -1}, "--kills"),
        ({"kills": 301}, "--kills"),
    ],
)
def test_number_out_of_range_is_refused(numbers: dict[str, Any], named: str) -> None:
    """The message names the option."""
    with pytest.raises(ValidationFailed, match=named):
        Scenario(**numbers)
