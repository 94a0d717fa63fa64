"""Both clients against the fake account: leads arrive once, and settings that make no sense are refused."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from tests.crm.loopback import COMPLEX, Driver, Server, saying

from resilient_agents import events
from resilient_agents.crm.kommo import AsyncKommoClient, KommoClient, NewLead
from resilient_agents.deadletter import DeadLetterQueue, Delivered, Queued, Replayer, State
from resilient_agents.errors import (
    ConfigurationError,
    Conflict,
    OutcomeUnknown,
    ReauthRequired,
    ValidationFailed,
)
from resilient_agents.testing import FakeClock, FakeKommo

ANN = NewLead(name="Anna 🙂", phone="+7 916 000-00-00", email="ann@example.com", tags=("site",), price=100)

Connect = Callable[..., Driver]


def test_a_lead_is_delivered(connect: Connect, fake: FakeKommo) -> None:
    """A submitted lead is in Kommo, with its contact and its key, when the receipt says so."""
    receipt = connect().submit(ANN, key="form-8731")
    [lead] = fake.leads()

    assert isinstance(receipt, Delivered)
    assert lead["id"] == receipt.value == int(receipt.reference or 0)
    assert ("Anna 🙂", 100, ["site"]) == (lead["name"], lead["price"], lead["tags"])
    assert {"EXTERNAL_ID": ["form-8731"]} == lead["custom_fields"]
    assert ["+7 916 000-00-00"] == lead["contact"]["phones"]
    assert ["ann@example.com"] == lead["contact"]["emails"]


def test_the_same_key_twice_is_one_lead(connect: Connect, fake: FakeKommo) -> None:
    """A repeated submission finds the first one and says the same."""
    driver = connect()

    assert driver.submit(ANN, key="form-8731") == driver.submit(ANN, key="form-8731")
    assert 1 == len(fake.leads())


def test_a_mapping_is_as_good_as_a_lead(connect: Connect, fake: FakeKommo) -> None:
    """A lead and the mapping of its fields are the same work."""
    driver = connect()
    receipt = driver.submit(ANN, key="form-8731")

    assert receipt == driver.submit(ANN.model_dump(exclude_defaults=True), key="form-8731")
    assert 1 == len(fake.leads())


def test_the_same_key_with_another_lead_is_a_conflict(connect: Connect, fake: FakeKommo) -> None:
    """A key stands for one lead, and the second one is told so."""
    driver = connect()
    driver.submit(ANN, key="form-8731")

    with pytest.raises(Conflict):
        driver.submit({"name": "Bob"}, key="form-8731")
    assert 1 == len(fake.leads())


def test_without_a_key_each_lead_is_new(connect: Connect, fake: FakeKommo) -> None:
    """The key by default is a new one each time, and the lead can be found by it."""
    driver = connect()
    receipts = [driver.submit(ANN) for _ in range(2)]

    keys = [lead["custom_fields"]["EXTERNAL_ID"][0] for lead in fake.leads()]
    assert 2 == len(set(keys))
    assert [receipt.reference for receipt in receipts if isinstance(receipt, Delivered)] == [
        str(driver.find_lead(key)) for key in keys
    ]


def test_without_waiting_the_lead_is_queued_and_a_worker_delivers_it(
    connect: Connect, fake: FakeKommo
) -> None:
    """With a wait of 0 nothing is sent by the caller; the replayer does it."""
    driver = connect()
    receipt = driver.submit(ANN, key="form-8731", wait=0)

    assert isinstance(receipt, Queued)
    assert (State.PENDING, None) == (receipt.state, receipt.code)
    assert not fake.requests()
    assert 1 == driver.replay().delivered
    assert [driver.find_lead("form-8731")] == [lead["id"] for lead in fake.leads()]


def test_a_worker_sends_many_leads_in_a_request(connect: Connect, fake: FakeKommo) -> None:
    """120 waiting leads take three requests, and each is there once."""
    driver = connect()
    for number in range(120):
        driver.submit({"name": "x"}, key=f"form-{number:04}", wait=0)
    driver.replay()

    assert 3 == sum(request["path"] == COMPLEX for request in fake.requests())
    assert {f"form-{number:04}" for number in range(120)} == {
        lead["custom_fields"]["EXTERNAL_ID"][0] for lead in fake.leads()
    }
    assert 120 == len(fake.leads()) == driver.count(State.DELIVERED)


def test_leads_with_an_ordering_key_arrive_in_order(connect: Connect, fake: FakeKommo) -> None:
    """A lead waits for the earlier ones with its ordering key, even where it could be sent at once."""
    driver = connect()
    driver.submit({"name": "first"}, ordering_key="ann", wait=0)
    second = driver.submit({"name": "second"}, ordering_key="ann")
    driver.replay()

    assert isinstance(second, Queued)
    assert ["first", "second"] == [lead["name"] for lead in fake.leads()]


@pytest.mark.parametrize(
    "lead",
    [
        {},
        {"name": "a", "nickname": "b"},
        {"name": "a", "phone": "none"},
        {"name": "a", "price": float("inf")},
        {"name": "a", "custom_fields": {"external_id": "mine"}},
    ],
)
def test_a_wrong_lead_is_refused_before_it_is_stored(
    connect: Connect, fake: FakeKommo, lead: dict[str, Any]
) -> None:
    """Wrong data is the caller's to mend: it is neither stored nor sent."""
    driver = connect()
    with pytest.raises(ValidationFailed, match=r"^lead: "):
        driver.submit(lead)

    assert 0 == driver.queue.stats().waiting
    assert not fake.requests()


def test_a_key_that_cannot_be_stored_is_refused(connect: Connect) -> None:
    """An empty key is the caller's mistake."""
    with pytest.raises(ValidationFailed, match="key"):
        connect().submit(ANN, key="")


@pytest.mark.parametrize("key", ["заявка № 1 / %?&#", "x" * 200, "7", "a b", "'; --", "form-8731"])
def test_a_lead_is_found_by_any_key(connect: Connect, fake: FakeKommo, key: str) -> None:
    """Whatever the characters of a key, the lead that carries it is found."""
    driver = connect()
    lead_id = driver.create_lead(ANN, key)

    assert lead_id == driver.find_lead(key)
    assert driver.find_lead(key + "0") is None
    assert 1 == len(fake.leads())


def test_a_lead_that_was_not_named_is_no_success(
    connect: Connect, serve: Callable[[Callable[[socket.socket], object]], Server]
) -> None:
    """An answer without the lead's id is not taken for a success."""
    fields = b'{"_embedded": {"custom_fields": [{"id": 5, "code": "EXTERNAL_ID"}]}}'
    server = serve(saying("200 OK\r\ncontent-type: application/json", fields))

    with pytest.raises(OutcomeUnknown, match="did not name the lead"):
        connect(server.url).create_lead(ANN, "form-8731")


def test_a_direct_call_says_what_is_wrong(connect: Connect, fake: FakeKommo) -> None:
    """Without the queue a failure is the caller's, as an exception that names no token."""
    fake.switch(token="another")

    with pytest.raises(ReauthRequired, match="set a new one") as caught:
        connect().find_lead("form-8731")
    assert fake.token not in str(caught.value)


def test_a_deadline_of_nothing_queues_the_lead(connect: Connect, fake: FakeKommo) -> None:
    """A wait that is over before the call begins costs the lead nothing but time, and blames nobody."""
    driver = connect()
    for _ in range(4):
        receipt = driver.submit(ANN, wait=1e-9)
        assert isinstance(receipt, Queued)
        assert "rate_limit.own" == receipt.code

    assert not fake.requests()
    assert 0.0 == driver.queue.pauses.wait(driver.client.topic)


def test_the_rate_is_kept(connect: Connect, fake: FakeKommo, clock: FakeClock) -> None:
    """Every request takes its turn: seven a second, or less, as some take longer on the way."""
    driver = connect(rate=7)
    found = [driver.find_lead("form-8731") for _ in range(18)]

    assert [None] * 18 == found
    assert 20 == len(fake.requests())
    assert [1.1, 1.1] == pytest.approx(clock.sleeps)


def test_a_closed_client_can_go_on(connect: Connect) -> None:
    """Closing gives connections back and ends nothing."""
    driver = connect()
    driver.submit(ANN, key="form-8731")
    driver.close()

    assert driver.find_lead("form-8731") is not None


def test_a_client_closes_at_the_end_of_its_block(fake: FakeKommo, queue: DeadLetterQueue) -> None:
    """The with block gives the connections back, and a replayer may go on with the client's topic."""
    with KommoClient(fake.url, tokens=fake.token, queue=queue) as client:
        client.submit(ANN, wait=0)

    assert 1 == Replayer(queue).run_once().delivered
    client.close()


async def test_an_awaiting_client_closes_at_the_end_of_its_block(
    fake: FakeKommo, queue: DeadLetterQueue
) -> None:
    """The async with block does the same."""
    async with AsyncKommoClient(fake.url, tokens=fake.token, queue=queue) as client:
        receipt = await client.submit(ANN)

    assert isinstance(receipt, Delivered)


def test_what_happens_is_told(connect: Connect, fake: FakeKommo) -> None:
    """Acceptance and delivery are events, with Kommo's id."""
    heard: list[events.EntryEvent] = []
    events.subscribe(events.EntryEvent)(heard.append)
    driver = connect()
    driver.submit(ANN, key="form-8731")

    accepted, delivered = heard
    assert isinstance(accepted, events.EntryAccepted)
    assert isinstance(delivered, events.EntryDelivered)
    assert ("form-8731", False) == (delivered.key, delivered.reconciled)
    assert [delivered.reference] == [str(lead["id"]) for lead in fake.leads()]


def test_one_queue_serves_an_account_once(connect: Connect, fake: FakeKommo) -> None:
    """Two clients of one account on one queue would not know of each other's topic."""
    connect()

    with pytest.raises(ConfigurationError, match="has a handler already"):
        connect()
    with pytest.raises(ConfigurationError, match="has a handler already"):
        connect(fake.url.upper())


def test_a_topic_of_its_own_makes_room_for_a_second_client(connect: Connect, fake: FakeKommo) -> None:
    """The topic can be named, as when an account has moved to another host."""
    connect()
    driver = connect(topic="kommo.lead@moved")

    assert isinstance(driver.submit(ANN), Delivered)
    assert "kommo.lead@moved" == driver.client.topic


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("acme.kommo.com", "https://acme.kommo.com"),
        ("Acme.AmoCRM.ru", "https://acme.amocrm.ru"),
        ("https://acme.kommo.com/", "https://acme.kommo.com"),
        ("https://proxy.example:8443", "https://proxy.example:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_the_host_may_be_a_name_or_a_url(queue: DeadLetterQueue, host: str, url: str) -> None:
    """A name means https; a URL is taken without its path."""
    client = KommoClient(host, tokens="token", queue=queue)

    assert url == client.base_url
    assert f"kommo.lead@{url.partition('//')[2]}" == client.topic


@pytest.mark.parametrize(
    "host",
    [
        "",
        "https://",
        "https://acme.kommo.com/leads",
        "https://acme.kommo.com?a=1",
        "https://user:secret@acme.kommo.com",
        "ftp://acme.kommo.com",
        "acme kommo.com",
        "acme.kommo.com\n",
        "acme.kommo.com:port",
        "https://[::1",
        "http://acme.kommo.com",
        "http://127.0.0.1.evil.example",
        "http://192.168.0.7",
    ],
)
def test_a_host_that_makes_no_sense_or_gives_the_token_away_is_refused(
    queue: DeadLetterQueue, host: str
) -> None:
    """Only a host name over https, or this machine, gets the token."""
    with pytest.raises(ConfigurationError, match=r"host|https") as caught:
        KommoClient(host, tokens="token", queue=queue)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"tokens": ""},
        {"tokens": "line\nbreak"},
        {"tokens": None},
        {"rate": 0},
        {"batch": 0},
        {"grace": -1},
        {"grace": float("nan")},
        {"field_code": ""},
    ],
)
def test_settings_that_make_no_sense_are_refused(queue: DeadLetterQueue, settings: dict[str, Any]) -> None:
    """A wrong setting is told at the start, and leaves no topic behind."""
    with pytest.raises(ConfigurationError):
        KommoClient("acme.kommo.com", **{"tokens": "token", "queue": queue, **settings})
    assert not queue.targets
