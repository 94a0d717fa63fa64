"""The activity feed as a FastAPI router."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from resilient_agents.activity import ActivityLog, Stream, page_as_json
from resilient_agents.activity.stream import HEADERS, check_interval


def activity_router(
    log: ActivityLog, *, organization: Callable[..., Any], interval: float = 1.0
) -> APIRouter:
    """Return a router with the feed of a log: ``/recent`` as JSON, ``/stream`` as Server-Sent Events.

    Args:
        log: The log.
        organization: A dependency (``Depends``) that returns the organisation of whoever asks, and refuses
            who may not see it. There is no default: a feed without a check shows everybody everything.
        interval: Time in seconds between two looks at the log for a stream. The default is 1.

    Raises:
        TypeError: *interval* is no number.
        ValueError: It is not more than 0.
    """
    check_interval(interval)
    router = APIRouter(tags=["activity"])

    @router.get("/recent", summary="What happened lately")
    async def recent(
        organization_id: Annotated[str, Depends(organization)],
        response: Response,
        after: str | None = None,
        before: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        agent_id: str | None = None,
        action: Annotated[list[str] | None, Query()] = None,
    ) -> dict[str, Any]:
        page = await log.arecent(
            organization_id, after=after, before=before, limit=limit, agent_id=agent_id, actions=action or ()
        )
        response.headers["Cache-Control"] = "no-store"
        return page_as_json(page)

    @router.get("/stream", summary="What happens, as it happens", response_class=StreamingResponse)
    async def stream(
        organization_id: Annotated[str, Depends(organization)],
        after: str | None = None,
        last_event_id: Annotated[str | None, Header()] = None,
        agent_id: str | None = None,
        action: Annotated[list[str] | None, Query()] = None,
    ) -> StreamingResponse:
        events = Stream(
            log,
            organization_id,
            after=last_event_id or after,
            interval=interval,
            agent_id=agent_id,
            actions=action or (),
        )
        return StreamingResponse(aiter(events), media_type="text/event-stream", headers=HEADERS)

    return router
