"""Where the account's leads, contacts, companies and custom fields are kept: memory, and a file if wanted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from resilient_agents.testing.fake_kommo.answers import encode

Record: TypeAlias = dict[str, Any]

ACCOUNT_ID = 31_000_001
_FIRST_IDS = {"fields": 500_001, "leads": 10_000_001, "contacts": 20_000_001, "companies": 30_000_001}
_PHONE = ("WORK", "WORKDD", "MOB", "FAX", "HOME", "OTHER")
_EMAIL = ("WORK", "PRIV", "OTHER")


class Store:
    """All records of the account, by kind and id.

    Args:
        data: A file to which every batch is appended as one line before it counts as stored, and from
            which a new store on the same file takes up again. *None* keeps everything in memory only.
    """

    def __init__(self, data: str | Path | None = None) -> None:
        self._file = None if data is None else Path(data)
        self._clear()
        if self._file is not None:
            self._load(self._file)

    def _clear(self) -> None:
        self._records: dict[str, dict[int, Record]] = {kind: {} for kind in _FIRST_IDS}
        self._next_ids = dict(_FIRST_IDS)
        self._next_option = 1
        for entity in ("contacts", "companies"):
            self._predefine(entity, "Phone", "multitext", "PHONE", _PHONE)
            self._predefine(entity, "Email", "multitext", "EMAIL", _EMAIL)
        self._predefine("contacts", "Position", "text", "POSITION", ())
        self._predefine("companies", "Web", "url", "WEB", ())

    def _predefine(self, entity: str, name: str, kind: str, code: str, options: tuple[str, ...]) -> None:
        field = {
            "id": self.new_id("fields"),
            "name": name,
            "type": kind,
            "code": code,
            "entity_type": entity,
            "enums": self.options(options),
            "is_deletable": False,
            "is_predefined": True,
        }
        self._put("fields", field)

    def _load(self, file: Path) -> None:
        """Take up the batches of *file*; a last line that a kill cut short was never answered."""
        if not file.exists():
            file.touch(mode=0o600)
            return
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            file.write_bytes(whole)
        for line in whole.splitlines():
            for kind, record in json.loads(line):
                self._put(kind, record)

    def reset(self) -> None:
        """Forget everything but the predefined fields, in the file too."""
        self._clear()
        if self._file is not None:
            self._file.write_bytes(b"")

    def new_id(self, kind: str) -> int:
        """Return an id that no record of *kind* has had."""
        self._next_ids[kind] += 1
        return self._next_ids[kind] - 1

    def options(self, names: tuple[str, ...]) -> list[Record] | None:
        """Return *names* as the options of a field, or *None* if there are none."""
        options = []
        for position, name in enumerate(names, start=1):
            options.append({"id": self._next_option, "value": name, "sort": position})
            self._next_option += 1
        return options or None

    def save(self, batch: list[tuple[str, Record]]) -> None:
        """Store the records of *batch*, each with its kind, all or none."""
        if self._file is not None:
            with self._file.open("ab", buffering=0) as file:
                file.write(encode(batch) + b"\n")
        for kind, record in batch:
            self._put(kind, record)

    def _put(self, kind: str, record: Record) -> None:
        self._records[kind][record["id"]] = record
        self._next_ids[kind] = max(self._next_ids[kind], record["id"] + 1)
        for option in record.get("enums") or ():
            self._next_option = max(self._next_option, option["id"] + 1)

    def get(self, kind: str, record_id: Any) -> Record | None:
        """Return one record, or *None*."""
        return self._records[kind].get(record_id)

    def all(self, kind: str) -> list[Record]:
        """Return the records of *kind* in the order in which they were stored."""
        return list(self._records[kind].values())

    def fields_of(self, entity: str) -> list[Record]:
        """Return the custom fields of leads, contacts or companies."""
        return [field for field in self.all("fields") if field["entity_type"] == entity]

    def find_field(self, entity: str, named: Record) -> Record | None:
        """Return the custom field that *named* means by its ``field_id`` or else its ``field_code``."""
        if named.get("field_id") is not None:
            wanted, key = named["field_id"], "id"
        else:
            wanted, key = named.get("field_code"), "code"
        if wanted is None:
            return None
        return next((field for field in self.fields_of(entity) if field[key] == wanted), None)

    def find_contact(self, numbers: set[str]) -> Record | None:
        """Return the first contact that has one of *numbers*, as `phone_keys` writes them, or *None*."""
        return next((contact for contact in self.all("contacts") if numbers & phone_keys(contact)), None)

    def leads_of(self, contact_id: int) -> Iterator[Record]:
        """Yield the leads that a contact belongs to."""
        return (lead for lead in self.all("leads") if contact_id in lead["contact_ids"])


def values_of(record: Record, code: str) -> list[Any]:
    """Return the values that *record* holds in the custom field with *code*."""
    filled = record["custom_fields_values"] or ()
    return [value["value"] for field in filled if field["field_code"] == code for value in field["values"]]


def phone_keys(contact: Record) -> set[str]:
    """Return the phones of *contact*, each cut to its last ten digits, as duplicates are compared."""
    digits = ("".join(filter(str.isdigit, str(phone))) for phone in values_of(contact, "PHONE"))
    return {number[-10:] for number in digits if number}
