"""What an agent does with a message: find out what is wanted, look up what is known, act.

Each of the three steps may fail, and none takes the message down with it: without an analysis the intent is
``"other"``, without a context the action goes on without one, an action that is not critical is left out, and
a critical one is in a dead-letter queue before it is tried. What was done without, and why, is in the
`Outcome` and in the activity log.

- `message`: the values that go in and come out, and the three protocols.
- `agent`: `AgentActions`, which takes the steps.
"""

from resilient_agents.actions._stored import key_of
from resilient_agents.actions.agent import AgentActions
from resilient_agents.actions.message import (
    OTHER,
    ActionHandler,
    ContextSource,
    Degradation,
    Intent,
    IntentAnalyzer,
    Message,
    Outcome,
    Recorder,
    Status,
)

__all__ = [
    "OTHER",
    "ActionHandler",
    "AgentActions",
    "ContextSource",
    "Degradation",
    "Intent",
    "IntentAnalyzer",
    "Message",
    "Outcome",
    "Recorder",
    "Status",
    "key_of",
]
