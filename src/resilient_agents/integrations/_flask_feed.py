"""The activity feed as a Flask blueprint."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify, request

from resilient_agents.activity import ActivityLog, Stream, page_as_json
from resilient_agents.activity.stream import HEADERS, check_interval
from resilient_agents.errors import ValidationFailed


def activity_blueprint(
    log: ActivityLog, *, organization: Callable[[], str], interval: float = 1.0, name: str = "activity"
) -> Blueprint:
    """Return a blueprint with the feed of a log: ``/recent`` as JSON, ``/stream`` as Server-Sent Events.

    A stream keeps a thread of the server for as long as somebody listens.

    Args:
        log: The log.
        organization: Called in the request; returns the organisation of whoever asks, and refuses who may
            not see it. There is no default: a feed without a check shows everybody everything.
        interval: Time in seconds between two looks at the log for a stream. The default is 1.
        name: The blueprint's name. The default is ``"activity"``.

    Raises:
        TypeError: *interval* is no number.
        ValueError: It is not more than 0.
    """
    check_interval(interval)
    blueprint = Blueprint(name, __name__)

    @blueprint.get("/recent")
    def recent() -> Response:
        page = log.recent(
            organization(),
            after=request.args.get("after"),
            before=request.args.get("before"),
            limit=_limit(request.args.get("limit", "50")),
            **_which(),
        )
        answer = jsonify(page_as_json(page))
        answer.headers["Cache-Control"] = "no-store"
        return answer

    @blueprint.get("/stream")
    def stream() -> Response:
        after = request.headers.get("Last-Event-ID") or request.args.get("after")
        events = Stream(log, organization(), after=after, interval=interval, **_which())
        return Response(iter(events), mimetype="text/event-stream", headers=HEADERS)

    return blueprint


def _which() -> dict[str, Any]:
    return {"agent_id": request.args.get("agent_id"), "actions": request.args.getlist("action")}


def _limit(text: str) -> int:
    if not text.isdecimal() or len(text) > 3:
        problem = "must be a whole number from 1 to 200"
        raise ValidationFailed(
            f"limit {problem}", errors=[{"loc": ["query", "limit"], "msg": problem, "type": "int"}]
        )
    return int(text)
