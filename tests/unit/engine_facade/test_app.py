"""The application over a real pipeline, in process: extensions, faults, impersonation, shared encodings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.clock import FakeClock, SystemClock
from headrace.engine.facade.app import build_app
from headrace.engine.facade.authoriser import GroupAuthoriser
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.seeding import builtin_registry
from headrace.engine.store.store import Store
from headrace.engine.tokens import AccountTokens, StaticTokens

pytestmark = pytest.mark.anyio
BASE = "/apis/reads.example.org/v1alpha1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def who(http: HttpRequest) -> Response:
    return JSONResponse({"user": http.user.name, "namespace": http.path_params.get("namespace", "")})


async def fault(http: HttpRequest) -> Response:
    raise ZeroDivisionError


EXTENSIONS = [
    Route(BASE, who),
    Route(f"{BASE}/namespaces/{{namespace}}/jobs/{{name}}/waiting", who),
    Route(f"{BASE}/usage", who),
    Route(f"{BASE}/fault", fault),
]


class Served:
    """The application's client and tokens."""

    def __init__(self, client: httpx2.AsyncClient, tokens: StaticTokens, accounts: AccountTokens) -> None:
        self.client = client
        self.tokens = tokens
        self.accounts = accounts

    async def get(self, path: str, token: str = "", **headers: Any) -> httpx2.Response:
        sent = {"authorization": f"Bearer {token}"} if token else {}
        return await self.client.get(path, headers={**sent, **{k.replace("_", "-"): v for k, v in headers.items()}})


@asynccontextmanager
async def serve(directory: Path, **options: Any) -> AsyncIterator[Served]:
    tokens = StaticTokens(directory / "tokens.csv")
    accounts = AccountTokens(directory / "accounts.key", FakeClock())
    async with Store(directory / "objects.db") as store:
        pipeline = Pipeline(store, builtin_registry(), clock=SystemClock(), authoriser=GroupAuthoriser())
        app = build_app(pipeline, static=tokens, accounts=accounts, clock=FakeClock(), **options)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="https://x") as client:
            yield Served(client, tokens, accounts)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path, extensions=EXTENSIONS) as made:
        yield made


async def test_an_extension_sees_who_asks(served: Served) -> None:
    admin = served.tokens.ensure("admin", ("system:masters",))
    found = await served.get(f"{BASE}/namespaces/vision/jobs/j/waiting", admin)
    assert found.json() == {"user": "admin", "namespace": "vision"}
    assert (await served.get(BASE, admin)).json()["user"] == "admin"
    assert (await served.get("/apis/reads.example.org", admin)).json()["preferredVersion"]["version"] == "v1alpha1"
    assert (await served.get(f"{BASE}/nothing", admin)).status_code == 404


async def test_an_extension_is_authorised_by_its_path(served: Served) -> None:
    person = served.tokens.ensure("someone")
    for path in ("/namespaces/vision/jobs/j/waiting", "/usage"):
        assert (await served.get(BASE + path)).status_code == 401
        assert (await served.get(BASE + path, person)).status_code == 403
    assert (await served.get(BASE)).status_code == 401
    assert (await served.get(BASE, person)).status_code == 200


async def test_a_fault_is_a_status_that_names_no_internals(served: Served) -> None:
    admin = served.tokens.ensure("admin", ("system:masters",))
    found = await served.get(f"{BASE}/fault", admin)
    assert (found.status_code, found.json()["reason"]) == (500, "InternalError")
    assert "See the log" in found.json()["message"]


async def test_only_masters_impersonate(served: Served) -> None:
    admin = served.tokens.ensure("admin", ("system:masters",))
    person = served.tokens.ensure("someone")
    as_masters = {"impersonate_user": "other", "impersonate_group": "system:masters"}
    found = await served.get(f"{BASE}/usage", admin, **as_masters)
    assert found.json()["user"] == "other"
    assert (await served.get(f"{BASE}/usage", admin, impersonate_user="other")).status_code == 403
    refused = await served.get(f"{BASE}/usage", person, **as_masters)
    assert refused.status_code == 403
    assert "cannot impersonate user other" in refused.json()["message"]


async def test_other_credentials_are_refused(served: Served) -> None:
    answer = await served.client.get("/api/v1/pods", headers={"authorization": "Basic dTpw"})
    assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")


async def test_a_server_that_is_not_ready_says_why(tmp_path: Path) -> None:
    async with serve(tmp_path, ready=lambda: "caches are filling") as made:
        found = await made.get("/readyz")
        assert (found.status_code, found.text) == (503, "caches are filling")
        assert (await made.get("/livez")).text == "ok"


async def test_an_extension_elsewhere_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="extension route /other"):
        async with serve(tmp_path, extensions=[Route("/other", who)]):
            raise AssertionError("unreachable")
