"""The FastAPI example keeps what its OpenAPI document says, whatever it is sent: asked by schemathesis."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from examples.fastapi_app import create_app
from fastapi import FastAPI, HTTPException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from tests.integrations.fake_llm import fake_model

from resilient_agents.integrations import fastapi as answers
from resilient_agents.testing import FakeKommo


class Served:
    """An application behind a real server in a thread; *schema* is what it says of itself."""

    def __init__(self, app: FastAPI) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Any:
        self._thread.start()
        try:
            return schemathesis.openapi.from_url(f"{self.url}/openapi.json", timeout=60)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The example, with everything that it needs."""
    with fake_model() as model, FakeKommo(rate=None) as kommo, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "LLM_URL": model.url,
            "KOMMO_HOST": kommo.url,
            "KOMMO_TOKEN": kommo.token,
            "LEADS_DB": f"sqlite:///{tmp_path_factory.mktemp('contract') / 'leads.db'}",
        }.items():
            patch.setenv(name, value)
        with Served(create_app()) as schema:
            yield schema


OPERATIONS = [
    (method.upper(), path, mode)
    for path, methods in create_app().openapi()["paths"].items()
    for method in methods
    for mode in GenerationMode
    if (path, mode) != ("/health", GenerationMode.NEGATIVE)  # it takes nothing that could be wrong
]


def check(operation: Any, mode: GenerationMode, examples: int) -> None:
    """Send requests to an operation, right ones or wrong ones, and hold the answers against the document."""

    @settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        data.draw(operation.as_strategy(generation_mode=mode)).call_and_validate()

    holds()


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS, ids=str)
def test_document_holds(method: str, path: str, mode: GenerationMode, example: Any) -> None:
    """No answer of an operation is undocumented, and each is as documented."""
    check(example[path][method], mode, 15)


@pytest.mark.parametrize("installed", [False, True])
def test_undocumented_answer_is_found(installed: bool) -> None:
    """What is documented by `install` alone is found missing without it."""
    app = FastAPI()

    @app.get("/")
    async def root() -> None:
        raise HTTPException(409, "taken")

    if installed:
        answers.install(app)
    with Served(app) as schema:
        operation = schema["/"]["GET"]
        if installed:
            check(operation, GenerationMode.POSITIVE, 3)
        else:
            with pytest.raises(FailureGroup, match="Undocumented"):
                check(operation, GenerationMode.POSITIVE, 3)
