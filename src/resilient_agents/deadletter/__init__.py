"""Work that must arrive, and the proof that it did.

- `queue`: `DeadLetterQueue`, where work is handed in.
- `replayer`: `Replayer`, the worker that delivers what waits.
- `entry`: what a queue holds and what its users get back.
- `intake`: how work is checked on its way in; `protection`: functions whose arguments are stored first.
- `target`: who takes the work; `delivery`: one try at it; `leases`: for how long it is a worker's own;
  `settlement`: what becomes of a failure; `pauses`: which targets are down.
- `sqlite`: the embedded store, on the group-committing writer of this process; `queries`: what it can be
  asked.
"""

from resilient_agents.deadletter.entry import Delivered, Entry, Queued, Receipt, State, Stats
from resilient_agents.deadletter.queue import DeadLetterQueue
from resilient_agents.deadletter.replayer import Pass, Replayer
from resilient_agents.deadletter.settlement import Limits
from resilient_agents.deadletter.target import Outcome, Target, Traits

__all__ = [
    "DeadLetterQueue",
    "Delivered",
    "Entry",
    "Limits",
    "Outcome",
    "Pass",
    "Queued",
    "Receipt",
    "Replayer",
    "State",
    "Stats",
    "Target",
    "Traits",
]
