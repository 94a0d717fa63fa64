"""The leads that Kommo is given."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from resilient_agents.errors import ValidationFailed

LARGEST: Final = 2**63 - 1

FIELDS_LIMIT: Final = 39
"""Most custom fields beside the external id: Kommo takes 40 in ``/leads/complex``."""


def _phone(value: str) -> str:
    if re.fullmatch(r"[^A-Za-z]*(\d[^A-Za-z]*){3}.*", value, re.DOTALL) is None:
        raise PydanticCustomError("phone", "must hold at least three digits before any letter")
    return value


def _email(value: str) -> str:
    if re.fullmatch(r"[^@\s]+@[^@\s]+", value) is None:
        raise PydanticCustomError("email", "must be an address like ann@example.com")
    return value


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Phone = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_phone)]
Email = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_email)]
Whole = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
Amount = Annotated[int, Field(ge=0, le=LARGEST)]
Id = Annotated[int, Field(gt=0, le=LARGEST)]
FieldName = Annotated[str, StringConstraints(min_length=1)]
FieldValue = str | Whole | float | bool


class NewLead(BaseModel):
    """A lead that is to be created, with its contact.

    Attributes:
        name: Title of the lead. The default is the contact's name, phone or e-mail.
        price: Its worth, in units of the account's currency. The default is none.
        contact: Full name of the person. The default is *name*.
        phone: The person's phone number, as typed.
        email: The person's e-mail address.
        pipeline_id: Kommo's id of the pipeline. The default is the account's main one.
        status_id: Kommo's id of the stage. The default is the pipeline's first.
        responsible_user_id: Kommo's id of the user in charge.
        tags: Names of tags.
        custom_fields: Values of further lead fields, by Kommo's field id or field code; at most 39.

    Raises:
        ValidationFailed: A field is wrong, unknown or missing; the message names it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: Text | None = None
    price: Amount | None = None
    contact: Text | None = None
    phone: Phone | None = None
    email: Email | None = None
    pipeline_id: Id | None = None
    status_id: Id | None = None
    responsible_user_id: Id | None = None
    tags: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    custom_fields: dict[FieldName, FieldValue] = Field(default_factory=dict, max_length=FIELDS_LIMIT)

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_field(cls, value: Any, build: ModelWrapValidatorHandler["NewLead"]) -> "NewLead":
        try:
            lead = build(value)
        except ValidationError as exc:
            raise _refusal(exc) from None
        if lead.name or lead.contact or lead.phone or lead.email:
            return lead
        problem = "name, contact, phone or email is required"
        raise ValidationFailed(
            f"lead: {problem}", errors=[{"loc": ["name"], "msg": problem, "type": "missing"}]
        )

    def __repr_args__(self) -> list[tuple[str, str]]:
        """Show which fields are set and none of their values: logs and error trackers record reprs."""
        return [(name, "***") for name, value in self.__dict__.items() if value not in (None, (), {})]

    def payload(self) -> dict[str, Any]:
        """Return what is worth storing: the fields that were set, as JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def body(self, *, request_id: str, external_id: Mapping[str, Any]) -> dict[str, Any]:
        """Return the lead as Kommo's ``/api/v4/leads/complex`` takes it.

        Args:
            request_id: Comes back with the lead's answer.
            external_id: The custom field by which the lead is found again; no other value gets into it.
        """
        title = self.name or self.contact or self.phone or self.email
        fields = [
            {**_field(name), "values": [{"value": value}]}
            for name, value in self.custom_fields.items()
            if name != str(external_id["field_id"])
        ]
        ids = ("price", "pipeline_id", "status_id", "responsible_user_id")
        embedded: dict[str, Any] = {"contacts": [self._contact()]}
        if self.tags:
            embedded["tags"] = [{"name": tag} for tag in self.tags]
        return {
            "name": title,
            **{name: getattr(self, name) for name in ids if getattr(self, name) is not None},
            "custom_fields_values": [dict(external_id), *fields],
            "_embedded": embedded,
            "request_id": request_id,
        }

    def _contact(self) -> dict[str, Any]:
        ways = {"PHONE": self.phone, "EMAIL": self.email}
        values = [
            {"field_code": code, "values": [{"value": value, "enum_code": "WORK"}]}
            for code, value in ways.items()
            if value is not None
        ]
        contact: dict[str, Any] = {"first_name": self.contact or self.name or self.phone or self.email}
        if values:
            contact["custom_fields_values"] = values
        return contact


def new_lead(value: NewLead | Mapping[str, Any]) -> NewLead:
    """Return *value* as a lead.

    Raises:
        ValidationFailed: A field is wrong, unknown or missing; the message names it.
    """
    if isinstance(value, NewLead):
        return value
    if not isinstance(value, Mapping):
        raise ValidationFailed("lead must be a NewLead or a mapping of its fields")
    return NewLead.model_validate(dict(value))


def _field(name: str) -> dict[str, Any]:
    return {"field_id": int(name)} if name.isascii() and name.isdecimal() else {"field_code": name}


def _refusal(exc: ValidationError) -> ValidationFailed:
    """Name the fields without repeating what was put into them."""
    errors = [
        {"loc": list(error["loc"]) or ["lead"], "msg": error["msg"], "type": error["type"]}
        for error in exc.errors(include_url=False, include_context=False, include_input=False)
    ]
    summary = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors)
    return ValidationFailed(f"lead: {summary}", errors=errors)
