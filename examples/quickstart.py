"""Leads that reach Kommo once, whatever happens.

Run it as it is, and a fake Kommo account on this machine takes the lead. For your own account set
KOMMO_HOST, like acme.kommo.com, and KOMMO_TOKEN, a long-lived token of a private integration.
"""

import os
from contextlib import ExitStack

from resilient_agents import DeadLetterQueue, Replayer
from resilient_agents.crm.kommo import KommoClient, NewLead
from resilient_agents.testing import FakeKommo


def main() -> None:
    with ExitStack() as stack:
        host, token = os.environ.get("KOMMO_HOST"), os.environ.get("KOMMO_TOKEN")
        if not host or not token:
            fake = stack.enter_context(FakeKommo())
            host, token = fake.url, fake.token
        queue = stack.enter_context(DeadLetterQueue("sqlite:///leads.db"))
        kommo = stack.enter_context(KommoClient(host, tokens=token, queue=queue))

        lead = NewLead(name="Ann Lee", phone="+1 555 010-00-02", email="ann@example.com", tags=("site",))

        # The key says which lead is the same lead: the number of a form, of a message, of an order.
        receipt = kommo.submit(lead, key="form-8731")
        print("Ann:", receipt)

        # A button that was pressed twice, a webhook that came again: it is still one lead.
        print("Ann again:", kommo.submit(lead, key="form-8731"))

        # Here nobody waits for Kommo: a worker delivers it, in this process or in another.
        print("Bob:", kommo.submit({"name": "Bob", "phone": "+1 555 010-00-03"}, key="form-8732", wait=0))
        print("Worker:", Replayer(queue).run_once())

        print("In Kommo:", kommo.find_lead("form-8731"), kommo.find_lead("form-8732"))


if __name__ == "__main__":
    main()
