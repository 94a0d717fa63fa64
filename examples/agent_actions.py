"""An agent that answers messages: intent from a language model, context from the CRM, action in the CRM.

    pip install resilient-agents
    LLM_URL=https://api.openai.com/v1 LLM_KEY=sk-… CRM_URL=https://crm.example.com \
        python agent_actions.py 'Please call me back, +1 555 010-0002'

The model and the CRM may be down or slow, and this process may be killed: the message is handled all the
same, a call that somebody asked for is in the CRM exactly once, and what was done without is on record.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from resilient_agents import DeadLetterQueue, Replayer
from resilient_agents.actions import AgentActions, Intent, Message, Outcome
from resilient_agents.activity import ActivityLog
from resilient_agents.cache import Cache
from resilient_agents.errors import ExternalFailure
from resilient_agents.policies import remaining

INTENTS = ("call_back", "greet")
PROMPT = (
    f"You sort messages. Answer with one JSON object: intent, one of {', '.join(INTENTS)} or other; "
    "phone, if the message has one."
)


class Model:
    """Finds out what a message asks for, with an OpenAI-compatible model."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"})

    async def __call__(self, message: Message) -> Intent:
        turns = [{"role": "system", "content": PROMPT}, {"role": "user", "content": message.text}]
        body = {"model": os.environ.get("LLM_MODEL", "gpt-4o-mini"), "messages": turns, "temperature": 0}
        response = await self._http.post("/chat/completions", json=body, timeout=remaining())
        response.raise_for_status()
        try:
            answer = json.loads(response.json()["choices"][0]["message"]["content"])
            name, phone = answer["intent"], answer.get("phone")
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise ExternalFailure("the model's answer cannot be read", code="external.bad_body") from exc
        return Intent(name=name if name in INTENTS else "other", data={"phone": phone} if phone else {})

    async def aclose(self) -> None:
        await self._http.aclose()


class CRM:
    """The deal that a message is about, and the tasks that follow from it."""

    def __init__(self, url: str, cache: Cache) -> None:
        self._http = httpx.AsyncClient(base_url=url)
        # The same client writes again within minutes; an hour-old deal is better than none.
        self._deal = cache.cached("deal:{organization_id}:{client}", ttl=300, stale=3600)(self._load_deal)

    async def _load_deal(self, organization_id: str, client: str) -> dict[str, Any]:
        response = await self._http.get(f"/{organization_id}/deals/{client}", timeout=remaining())
        response.raise_for_status()
        return dict(response.json())

    async def deal(self, message: Message, intent: Intent) -> dict[str, Any]:
        """Return the deal of whoever wrote."""
        return await self._deal(message.organization_id, message.data["client"])

    async def book_call(self, message: Message, intent: Intent, deal: Mapping[str, Any] | None) -> str:
        """Make a task of a call; return its id."""
        body = {"phone": intent.data.get("phone"), "deal": None if deal is None else deal["id"]}
        # The CRM takes a key once, so a call that was booked and never confirmed is not booked twice.
        headers = {"Idempotency-Key": message.id}
        response = await self._http.post(
            f"/{message.organization_id}/tasks", json=body, headers=headers, timeout=remaining()
        )
        response.raise_for_status()
        return str(response.json()["id"])

    async def aclose(self) -> None:
        await self._http.aclose()


async def greet(message: Message, intent: Intent, deal: Mapping[str, Any] | None) -> str:
    return "Hello!" if deal is None else f"Hello, {deal['name']}!"


async def ask_back(message: Message, intent: Intent, deal: Mapping[str, Any] | None) -> str:
    return "Could you say that in other words?"


class Service:
    """Everything that handles messages."""

    def __init__(self, folder: Path, *, llm_url: str, llm_key: str, crm_url: str) -> None:
        self.queue = DeadLetterQueue(f"sqlite:///{folder}/actions.db")
        self.activity = ActivityLog(f"sqlite:///{folder}/activity.db", spill=folder / "spill")
        self._model = Model(llm_url, llm_key)
        self._crm = CRM(crm_url, Cache(os.environ.get("REDIS_URL"), prefix="agent"))
        self.actions = AgentActions(
            self._model, context=self._crm.deal, activity=self.activity, queue=self.queue
        )
        self.actions.on("call_back", critical=True, idempotent=True)(self._crm.book_call)
        self.actions.on("greet")(greet)
        self.actions.on("other")(ask_back)

    async def handle(self, message: Message) -> Outcome:
        return await self.actions.handle(message)

    async def catch_up(self) -> None:
        """Do what could not be done before; a worker of its own does it all the time."""
        await Replayer(self.queue).arun_once()

    async def aclose(self) -> None:
        await self._model.aclose()
        await self._crm.aclose()
        await asyncio.to_thread(self.activity.close)
        self.queue.close()


async def main(text: str) -> None:
    service = Service(
        Path(os.environ.get("DATA", ".")),
        llm_url=os.environ["LLM_URL"],
        llm_key=os.environ["LLM_KEY"],
        crm_url=os.environ["CRM_URL"],
    )
    try:
        await service.catch_up()
        message = Message(
            id=os.environ.get("MESSAGE_ID", "m-1"),
            organization_id="1",
            agent_id="42",
            text=text,
            data={"client": "ann"},
        )
        print(json.dumps(asdict(await service.handle(message))))
    finally:
        await service.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
