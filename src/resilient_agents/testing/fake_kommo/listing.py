"""Which leads a list request means: search, filters, order and pages."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlencode

from resilient_agents.testing.fake_kommo.answers import Refusal, Request, problem
from resilient_agents.testing.fake_kommo.store import Record

PAGE_LIMIT = 250
_DEFAULT_LIMIT = 50
_ID_FILTER = re.compile(r"filter\[id\](\[\d*\])?")
_RANGE_FILTER = re.compile(r"filter\[(created_at|updated_at)\]\[(from|to)\]")
_ORDER = re.compile(r"order\[(id|created_at|updated_at)\]")

Predicate: TypeAlias = Callable[[Record], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One page of a list.

    Attributes:
        number: Its number, from 1.
        records: What is on it.
        links: Its own address, and that of the next page if there is more.
    """

    number: int
    records: list[Record]
    links: Record


def page_of(request: Request, records: list[Record]) -> Page:
    """Return the page of *records* that *request* asks for.

    Raises:
        Refusal: A number is not one, or the fake does not know a filter or an order.
    """
    number = _whole(request, "page", 1)
    limit = min(_whole(request, "limit", _DEFAULT_LIMIT), PAGE_LIMIT)
    predicates = _predicates(request)
    found = [record for record in records if all(holds(record) for holds in predicates)]
    _sort(request, found)
    start = (number - 1) * limit
    links = {"self": _link(request, number, limit)}
    if len(found) > start + limit:
        links["next"] = _link(request, number + 1, limit)
    return Page(number=number, records=found[start : start + limit], links=links)


def _whole(request: Request, name: str, default: int) -> int:
    given = request.parameter(name)
    return default if given is None else _number(name, given, least=1)


def _number(name: str, text: str, *, least: int = 0) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= least):
        raise Refusal(problem(400, f"{name} should be a whole number from {least}"))
    return int(text)


def _predicates(request: Request) -> list[Predicate]:
    """Return what the query demands of a record; a filter that is not faked must not pass as obeyed."""
    predicates: list[Predicate] = []
    ids: set[int] = set()
    for name, text in request.query:
        if _ID_FILTER.fullmatch(name):
            ids.add(_number("filter[id]", text))
        elif span := _RANGE_FILTER.fullmatch(name):
            predicates.append(_within(span[1], span[2], _number(name, text)))
        elif name.startswith("filter"):
            raise Refusal(problem(400, f"FakeKommo does not fake {name}"))
    if ids:
        predicates.append(lambda record: record["id"] in ids)
    return predicates


def _within(attribute: str, side: str, moment: int) -> Predicate:
    if side == "from":
        return lambda record: record[attribute] >= moment
    return lambda record: record[attribute] <= moment


def _sort(request: Request, records: list[Record]) -> None:
    """Put *records* in the order asked for; they come in the order of their ids."""
    for name, direction in request.query:
        if not name.startswith("order"):
            continue
        order = _ORDER.fullmatch(name)
        if order is None or direction not in ("asc", "desc"):
            raise Refusal(problem(400, f"FakeKommo does not fake {name} in this direction"))
        attribute = order[1]
        records.sort(key=lambda record: (record[attribute], record["id"]), reverse=direction == "desc")


def _link(request: Request, number: int, limit: int) -> dict[str, str]:
    others = [(name, text) for name, text in request.query if name not in ("page", "limit")]
    query = urlencode([*others, ("page", number), ("limit", limit)])
    return {"href": f"{request.origin}{request.path}?{query}"}


def search(leads: list[Record], query: str) -> list[Record]:
    """Return the leads in one of whose filled fields *query* occurs, in whatever case."""
    wanted = query.casefold()
    return [lead for lead in leads if any(wanted in text.casefold() for text in _texts(lead))]


def _texts(lead: Record) -> list[str]:
    filled = lead["custom_fields_values"] or ()
    values = [str(value["value"]) for field in filled for value in field["values"]]
    return [lead["name"], str(lead["price"]), *values]
