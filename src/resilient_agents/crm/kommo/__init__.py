"""Kommo / amoCRM: leads that arrive once, whatever happens.

- `client`: `KommoClient` and `AsyncKommoClient`.
- `models`: the leads that Kommo is given.
- `calls`: what Kommo can be asked, as flows; `answers`: what its answers mean; `target`: how the entries of
  a queue become calls.
"""

from resilient_agents.crm.kommo.answers import BatchTooLarge, Refused
from resilient_agents.crm.kommo.calls import external_id
from resilient_agents.crm.kommo.client import AsyncKommoClient, KommoClient
from resilient_agents.crm.kommo.models import NewLead
from resilient_agents.crm.transport import Timeouts

__all__ = [
    "AsyncKommoClient",
    "BatchTooLarge",
    "KommoClient",
    "NewLead",
    "Refused",
    "Timeouts",
    "external_id",
]
