"""What a fault does to a request: execute it or not, wait, and choose the answer. No sockets."""

from threading import Thread

from resilient_agents._clock import clock
from resilient_agents.testing.fake_kommo.account import Account
from resilient_agents.testing.fake_kommo.answers import HTML, Answer, Request, page, server_error
from resilient_agents.testing.fake_kommo.faults import Fault

_GATEWAY = {
    "502": "502 Bad Gateway",
    "503": "503 Service Temporarily Unavailable",
    "504": "504 Gateway Time-out",
}
_MAINTENANCE = Answer(
    status=200,
    content_type=HTML,
    body=b"<html><head><title>Maintenance</title></head><body>We will be back soon.</body></html>",
)


def play(account: Account, fault: Fault, request: Request) -> Answer | None:
    """Let *fault* happen to *request*, but for what only a socket can do.

    Args:
        account: Where the request is executed, if it is.
        fault: What happens.
        request: What came.

    Returns:
        The answer, which may still be cut short or spread out by its kind; *None* where the client gets
        no answer at all.
    """
    if fault.kind in ("truncate", "drip"):
        return account.answer(request)
    if fault.kind == "latency":
        return _play_latency(account, fault, request)
    if fault.commit is True:
        account.execute(request)
    _pass_time(account, fault, request)
    return _answer(account, fault)


def _play_latency(account: Account, fault: Fault, request: Request) -> Answer:
    answer = account.answer(request) if fault.commit else None
    clock().sleep(fault.seconds)
    return answer or account.answer(request)


def _pass_time(account: Account, fault: Fault, request: Request) -> None:
    """Wait as *fault* says; a late commit of anything but a hang must not keep the client waiting."""
    generation = account.generation

    def commit_late() -> None:
        clock().sleep(fault.seconds)
        account.execute(request, generation=generation)

    if fault.commit != "late":
        if fault.kind != "refuse":
            clock().sleep(fault.seconds)
    elif fault.kind == "hang":
        commit_late()
    else:
        Thread(target=commit_late, name="late-commit", daemon=True).start()


def _answer(account: Account, fault: Fault) -> Answer | None:
    if fault.kind in _GATEWAY:
        return page(int(fault.kind), _GATEWAY[fault.kind])
    if fault.kind == "500":
        return server_error()
    if fault.kind == "429":
        return account.throttled()
    return _MAINTENANCE if fault.kind == "html" else None
