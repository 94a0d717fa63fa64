"""A service of AI agents: a small application to copy from.

    pip install 'resilient-agents[fastapi]' uvicorn
    LLM_URL=https://api.openai.com/v1 LLM_KEY=sk-… KOMMO_HOST=acme.kommo.com KOMMO_TOKEN=… \
        uvicorn fastapi_app:create_app --factory

What its callers see when something fails is decided once, in `install`. Nothing below catches an exception to
make an answer of it: what must be there for a request raises, what need not be has a fallback.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Annotated, Any, cast

import httpx
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    DeadLetterQueue,
    Delivered,
    Pipeline,
    Queued,
    RetryBudget,
    RetryPolicy,
    correlation,
    degrade,
    timeout,
)
from resilient_agents.crm.kommo import AsyncKommoClient, NewLead
from resilient_agents.errors import ExternalFailure, NotFound
from resilient_agents.integrations import fastapi as answers
from resilient_agents.policies import remaining

breaker = CircuitBreaker(name="llm")

# One pipeline for everything that goes to the model: what one endpoint learns of it, the others know.
llm = Pipeline(
    "llm",
    timeout(30),
    # Asking a model twice harms nobody, and an outage is not answered with three times the load.
    RetryPolicy(attempts=3, wait_initial=0.2, idempotent=True, budget=RetryBudget()),
    breaker,
    Bulkhead(50, name="llm"),
)


class Model:
    """An OpenAI-compatible model, over HTTP."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"})

    async def aclose(self) -> None:
        await self._http.aclose()

    @llm
    async def answer(self, prompt: str, message: str) -> str:
        """Return what the model says; raise what went wrong."""
        turns = [{"role": "system", "content": prompt}, {"role": "user", "content": message}]
        body = {"model": os.environ.get("LLM_MODEL", "gpt-4o-mini"), "messages": turns}
        # The request obeys the deadline of whoever asked us.
        response = await self._http.post("/chat/completions", json=body, timeout=remaining())
        response.raise_for_status()
        try:
            return str(response.json()["choices"][0]["message"]["content"])
        except (ValueError, LookupError, TypeError) as exc:
            raise ExternalFailure("the model's answer cannot be read", code="external.bad_body") from exc

    @degrade(default=())
    async def suggestions(self, message: str) -> tuple[str, ...]:
        """Return what the user may want to say next, or nothing where the model fails."""
        lines = await self.answer("Suggest three short follow-up questions, one a line.", message)
        return tuple(line for line in lines.splitlines() if line)[:3]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
Prompt = Annotated[str, Field(max_length=4000)]


class NewAgent(Strict):
    name: Name
    prompt: Prompt = "You are a friendly assistant."


class Changes(Strict):
    name: Name | None = None
    prompt: Prompt | None = None


class Agent(NewAgent):
    id: int


class Message(Strict):
    text: Annotated[str, Field(min_length=1, max_length=8000)]


class Reply(BaseModel):
    text: str
    suggestions: tuple[str, ...]


class LeadForm(Strict):
    form_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z][A-Za-z .'-]*$")]
    phone: Annotated[str, Field(pattern=r"^\+[0-9]{7,15}$")]


class LeadAccepted(BaseModel):
    entry_id: int
    delivered: bool


@dataclass
class Service:
    """What the endpoints work with."""

    model: Model
    kommo: AsyncKommoClient
    agents: dict[str, dict[int, Agent]] = field(default_factory=dict)
    ids: Any = field(default_factory=lambda: count(1))


def service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


async def organization(
    x_organization_id: Annotated[str, Header(min_length=1, max_length=40, pattern=r"^[a-z0-9-]+$")],
) -> AsyncIterator[str]:
    """Return whose request it is, as the gateway in front of us says; log lines carry it too."""
    with correlation.bind(organization_id=x_organization_id):
        yield x_organization_id


Organization = Annotated[str, Depends(organization)]
Here = Annotated[Service, Depends(service)]
AgentId = Annotated[int, Path(ge=1, le=2**31)]

router = APIRouter()


def found(here: Service, organization_id: str, agent_id: int) -> Agent:
    agent = here.agents.get(organization_id, {}).get(agent_id)
    if agent is None:
        raise NotFound("this organisation has no such agent", code="not_found.agent")
    return agent


@router.post("/agents", status_code=201)
async def create_agent(organization_id: Organization, new: NewAgent, here: Here, response: Response) -> Agent:
    agent = Agent(id=next(here.ids), **new.model_dump())
    here.agents.setdefault(organization_id, {})[agent.id] = agent
    response.headers["Location"] = f"/agents/{agent.id}"
    return agent


@router.get("/agents")
async def list_agents(
    organization_id: Organization, here: Here, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[Agent]:
    return list(islice(here.agents.get(organization_id, {}).values(), limit))


@router.get("/agents/{agent_id}")
async def get_agent(organization_id: Organization, agent_id: AgentId, here: Here) -> Agent:
    return found(here, organization_id, agent_id)


@router.patch("/agents/{agent_id}")
async def change_agent(
    organization_id: Organization, agent_id: AgentId, changes: Changes, here: Here
) -> Agent:
    agent = found(here, organization_id, agent_id)
    changed = agent.model_copy(update=changes.model_dump(exclude_none=True))
    here.agents[organization_id][agent_id] = changed
    return changed


@router.delete("/agents/{agent_id}", status_code=204)
async def delete_agent(organization_id: Organization, agent_id: AgentId, here: Here) -> None:
    found(here, organization_id, agent_id)
    del here.agents[organization_id][agent_id]


@router.post("/agents/{agent_id}/chat")
async def chat(organization_id: Organization, agent_id: AgentId, message: Message, here: Here) -> Reply:
    agent = found(here, organization_id, agent_id)
    with correlation.bind(agent_id=str(agent_id)):
        text = await here.model.answer(agent.prompt, message.text)
        return Reply(text=text, suggestions=await here.model.suggestions(text))


@router.post("/leads", status_code=202)
async def submit_lead(_: Organization, form: LeadForm, here: Here) -> LeadAccepted:
    # Returns when the lead is on disk, in Kommo or not: Kommo's outage is not our caller's.
    receipt = await here.kommo.submit(NewLead(name=form.name, phone=form.phone), key=form.form_id)
    match receipt:
        case Delivered(entry_id=entry_id):
            return LeadAccepted(entry_id=entry_id, delivered=True)
        case Queued(entry_id=entry_id):
            return LeadAccepted(entry_id=entry_id, delivered=False)


@router.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok", "llm": "up" if breaker.state == "closed" else "down"}


def create_app() -> FastAPI:
    """Return the application; its settings are in the environment."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        model = Model(os.environ["LLM_URL"], os.environ.get("LLM_KEY", ""))
        # What could not be delivered is delivered by `resilient-agents worker` beside this process.
        with DeadLetterQueue(os.environ.get("LEADS_DB", "sqlite:///leads.db")) as queue:
            async with AsyncKommoClient(
                os.environ["KOMMO_HOST"], tokens=os.environ["KOMMO_TOKEN"], queue=queue
            ) as kommo:
                app.state.service = Service(model, kommo)
                yield
        await model.aclose()

    app = FastAPI(title="Agents", lifespan=lifespan)
    app.include_router(router)
    answers.install(app, max_deadline=60.0)
    return app
