"""A whole Kommo (amoCRM) API v4 account on loopback, in a process of its own, for tests.

- `handle`: `FakeKommo`, which starts the process and asks it what really happened.
- `faults`: `Fault`, one way in which a CRM or the network fails, and the script made of them.
- `playback`: what a fault does to a request.
- `account`: the gate, the routes and the store behind one lock; no sockets.
- `gate`, `routes`, `listing`, `validation`, `entities`, `store`, `answers`: the rules of the account.
- `control`: the ``/_fake/`` addresses, which tell the truth and turn the switches.
- `conversation`, `server`: the sockets; `server.serve` is the blocking front door.
"""

from resilient_agents.testing.fake_kommo.faults import Fault, load_faults
from resilient_agents.testing.fake_kommo.handle import FakeKommo

__all__ = ["FakeKommo", "Fault", "load_faults"]
