"""Agents that chat, and a form for leads: a service with Flask.

    flask --app flask_app run
    resilient-agents worker flask_app:queue     delivers the leads that Kommo could not take

LLM_URL is an endpoint for chats in OpenAI's form, LLM_KEY its key. For your own Kommo account set KOMMO_HOST
and KOMMO_TOKEN; without them a fake one on this machine takes the leads.
"""

import os
from typing import Any

import httpx
from flask import Flask
from pydantic import BaseModel, Field

from resilient_agents import CircuitBreaker, DeadLetterQueue, Delivered, Pipeline, RetryPolicy
from resilient_agents.crm.kommo import KommoClient, NewLead
from resilient_agents.errors import NotFound, UnwantedResult
from resilient_agents.errors.responses import success_response
from resilient_agents.integrations import flask as answers
from resilient_agents.policies import remaining
from resilient_agents.testing import FakeKommo

AGENTS = {
    "sales": {"id": "sales", "name": "Sales", "prompt": "You sell. Be brief."},
    "support": {"id": "support", "name": "Support", "prompt": "You help. Be kind."},
}


class Chat(BaseModel):
    """What a visitor says to an agent."""

    message: str = Field(min_length=1, max_length=4_000)


class LeadForm(BaseModel):
    """What a visitor leaves."""

    form_id: str = Field(min_length=1, max_length=64)
    name: str = Field(min_length=1, max_length=100)
    phone: str = Field(pattern=r"^\+[0-9 ()-]{6,20}$")


app = Flask(__name__)
answers.install(app, deadline=30.0)

queue = DeadLetterQueue(f"sqlite:///{os.environ.get('LEADS', 'leads.db')}")
llm = httpx.Client(headers={"Authorization": f"Bearer {os.environ.get('LLM_KEY', 'none')}"})
LLM_URL = os.environ.get("LLM_URL", "http://127.0.0.1:8008/v1/chat/completions")


def open_kommo() -> KommoClient:
    host, token = os.environ.get("KOMMO_HOST"), os.environ.get("KOMMO_TOKEN")
    if not host or not token:
        fake = FakeKommo().__enter__()
        host, token = fake.url, fake.token
    return KommoClient(host, tokens=token, queue=queue)


kommo = open_kommo()
model = Pipeline("llm", RetryPolicy(3, wait_initial=0.2, idempotent=True), CircuitBreaker())


@model
def complete(prompt: str, message: str) -> str:
    """Ask the model. It is asked again where that can help, and left alone while it is down."""
    spoken = [{"role": "system", "content": prompt}, {"role": "user", "content": message}]
    answer = llm.post(LLM_URL, json={"messages": spoken}, timeout=remaining() or 30.0)
    answer.raise_for_status()
    try:
        return str(answer.json()["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError):
        raise UnwantedResult("the model answered without a text") from None


def the_agent(agent_id: str) -> dict[str, str]:
    if agent_id not in AGENTS:
        raise NotFound("there is no such agent")
    return AGENTS[agent_id]


@app.get("/health")
def health() -> dict[str, Any]:
    return {"status": "ok"}


@app.get("/agents")
def list_agents() -> dict[str, Any]:
    return success_response([{"id": it["id"], "name": it["name"]} for it in AGENTS.values()])


@app.get("/agents/<agent_id>")
def get_agent(agent_id: str) -> dict[str, Any]:
    return success_response(the_agent(agent_id))


@app.post("/agents/<agent_id>/chat")
def chat(agent_id: str) -> dict[str, Any]:
    agent = the_agent(agent_id)
    said = answers.body_as(Chat)
    return success_response({"agent": agent["id"], "reply": complete(agent["prompt"], said.message)})


@app.post("/leads")
def take_lead() -> tuple[dict[str, Any], int]:
    """Take a lead. It is safe when this answers; 202 says that Kommo gets it later."""
    form = answers.body_as(LeadForm)
    lead = NewLead(name=form.name, phone=form.phone, tags=("site",))
    receipt = kommo.submit(lead, key=form.form_id)
    if isinstance(receipt, Delivered):
        return success_response({"lead_id": receipt.reference}), 201
    return success_response({"queued": receipt.entry_id}), 202
