"""What happens in a demo, all of it decided by a seed: the leads, the kills, the faults."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from resilient_agents.errors import ValidationFailed
from resilient_agents.testing import Fault

EXTERNAL_ID: Final = "EXTERNAL_ID"
"""Code of the lead field that carries the key of a lead."""

LOAD: Final = 0.6
"""How much of the CRM's rate the leads would take, were each sent in one request, without failures."""

_MARGIN: Final = 1.5
"""Time in seconds that a lookup is distrusted for beyond the longest fault."""

_CHANCE: Final = 0.012

DEFAULT_FAULTS: Final = (
    Fault(kind="429", probability=_CHANCE),
    Fault(kind="500", probability=_CHANCE),
    Fault(kind="500", probability=_CHANCE, commit=True),
    Fault(kind="502", probability=_CHANCE),
    Fault(kind="502", probability=_CHANCE, commit=True),
    Fault(kind="503", probability=_CHANCE),
    Fault(kind="504", probability=_CHANCE),
    Fault(kind="504", probability=_CHANCE, commit=True),
    Fault(kind="504", probability=_CHANCE, commit="late", seconds=1.0),
    Fault(kind="drip", probability=_CHANCE, seconds=0.5),
    Fault(kind="drop", probability=_CHANCE),
    Fault(kind="drop", probability=_CHANCE, commit=True),
    Fault(kind="hang", probability=_CHANCE, seconds=2.0),
    Fault(kind="hang", probability=_CHANCE, seconds=2.0, commit="late"),
    Fault(kind="html", probability=_CHANCE),
    Fault(kind="refuse", probability=_CHANCE, seconds=0.3),
    Fault(kind="reset", probability=_CHANCE),
    Fault(kind="truncate", probability=_CHANCE),
    Fault(kind="latency", probability=0.1, seconds=0.3),
    Fault(kind="latency", seconds=0.05),
)
"""Every kind of fault: one request in five fails, and the others take a little time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lead:
    """A lead as a web form sends it.

    Attributes:
        key: Its idempotency key.
        fields: Its fields, as JSON values.
    """

    key: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """A SIGKILL to come.

    Attributes:
        after: How many leads are acknowledged first.
        delay: Time in seconds to wait then.
    """

    after: int
    delay: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """A demo: the same for both intakes, and the same each time for the same seed.

    Attributes:
        leads: How many leads are sent. The default is 300.
        kills: How often the intake service is killed, at most once a lead. The default is 5.
        seed: What everything random is drawn from. The default is 1.
        rate: Requests that the CRM admits in any second. The default is 50.
        faults: How the CRM and the network fail. The default has every kind of fault.

    Raises:
        ValidationFailed: A number is out of range; the message names it.
    """

    leads: int = 300
    kills: int = 5
    seed: int = 1
    rate: int = 50
    faults: tuple[Fault, ...] = DEFAULT_FAULTS

    def __post_init__(self) -> None:
        if min(self.leads, self.rate) < 1:
            raise ValidationFailed("--leads and --rate must be 1 or more")
        if not 0 <= self.kills <= self.leads:
            raise ValidationFailed("--kills must be between 0 and the number of leads")

    @property
    def pace(self) -> float:
        """How many leads are sent a second: fewer than the CRM admits, so that the naive intake keeps up."""
        return LOAD * self.rate

    @property
    def settling(self) -> float:
        """Time in seconds after which no request of unknown outcome is still under way in the CRM."""
        return max((fault.seconds for fault in self.faults), default=0.0)

    @property
    def grace(self) -> float:
        """Time in seconds for which "no such lead" is not believed after a request of unknown outcome."""
        return self.settling + _MARGIN

    def workload(self) -> list[Lead]:
        """Return the leads, in the order in which they are sent."""
        random = Random(f"{self.seed}:leads")  # noqa: S311 - repeatable, not secret
        return [
            Lead(key=f"form-{self.seed}-{number:05d}", fields=_fields(random, number))
            for number in range(1, self.leads + 1)
        ]

    def schedule(self) -> list[Kill]:
        """Return the kills, in their order."""
        random = Random(f"{self.seed}:kills")  # noqa: S311 - repeatable, not secret
        moments = sorted(random.sample(range(1, self.leads + 1), self.kills))
        return [Kill(after=moment, delay=random.uniform(0.02, 0.4)) for moment in moments]


_PEOPLE: Final = (
    "Анна Кузнецова",
    "Пётр Ильич Щербаков",
    "José Ángel Núñez",
    "Zoë O'Connor-Smith",
    "李小龙",
    "Ольга «Оля» Ёлкина 🙂",
    "Abdul-Rahman ibn Khalid",
    "Мария-Антуанетта фон Штольценфельс-Вальдбург унд цу Гогенлоэ",
)
_WISHES: Final = (
    "Ремонт кухни 🏠",
    "Website, 5 pages",
    "Срочно: доставка 24/7 🚚",
    "Consultation",
    "Подписка «Про» на год",
    "Заявка с длинным описанием: " + "нужен расчёт стоимости, сроков и гарантий; " * 4,
)
_TAGS: Final = ("сайт", "instagram", "VIP ⭐", "повторный", "landing-7")
_MAIL_HOSTS: Final = ("example.com", "example.org", "почта.example")


def _fields(random: Random, number: int) -> dict[str, Any]:
    person = random.choice(_PEOPLE)
    fields: dict[str, Any] = {
        "name": f"{random.choice(_WISHES).strip()} №{number}",
        "contact": person,
        "price": random.randrange(0, 2_000_000, 500),
        "phone": _phone(random),
    }
    if random.random() < 0.7:
        fields["email"] = f"client.{number}+{random.randrange(100)}@{random.choice(_MAIL_HOSTS)}"
    if tags := random.sample(_TAGS, random.randrange(4)):
        fields["tags"] = tags
    return fields


def _phone(random: Random) -> str:
    first, second = random.randrange(100, 1000), random.randrange(10, 100)
    return random.choice(
        ("+7 (900) {0}-{1}-00", "8900{0}{1}00", "+44 20 7946 0{0}", "+1-202-555-01{1}")
    ).format(first, second)
