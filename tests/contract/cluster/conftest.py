"""The implementations of `Cluster` that one suite holds to the same answers.

`cluster` is each of them in turn; `server` only those that are whole API servers (defaults, validation, namespaces,
immutability…), which the fake is not. What a case finds different between them is a bug in ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from headrace.clock import SystemClock
from headrace.cluster.fake import FakeCluster, history
from headrace.cluster.protocol import Cluster
from headrace.cluster.remote import RemoteCluster
from headrace.engine import kubeconfig
from headrace.engine.client import LocalCluster
from headrace.engine.facade.app import build_app
from headrace.engine.facade.authoriser import GroupAuthoriser
from headrace.engine.facade.options import UVICORN_OPTIONS
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.request import SYSTEM
from headrace.engine.pipeline.seeding import builtin_registry, seed
from headrace.engine.pki import Authority, Certificate
from headrace.engine.store.store import Store
from headrace.engine.tokens import StaticTokens
from headrace.ids import name_suffix
from headrace.spec.kinds import NAMESPACE

Opener = Callable[[Path], AbstractAsyncContextManager[Cluster]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def open_local(directory: Path) -> AsyncIterator[Cluster]:
    async with Store(directory / "objects.db", bookmark_s=0.05) as store:
        pipeline = Pipeline(store, builtin_registry(), clock=SystemClock())
        await seed(pipeline)
        yield LocalCluster(pipeline, SYSTEM)


@asynccontextmanager
async def open_fake(directory: Path) -> AsyncIterator[Cluster]:
    yield FakeCluster()


@asynccontextmanager
async def open_https(directory: Path) -> AsyncIterator[Cluster]:
    clock = SystemClock()
    authority = Authority.open(directory / "pki", clock)
    tokens = StaticTokens(directory / "tokens.csv")
    async with Store(directory / "objects.db", bookmark_s=0.05) as store:
        pipeline = Pipeline(store, builtin_registry(), clock=clock, authoriser=GroupAuthoriser())
        await seed(pipeline)
        app = build_app(pipeline, static=tokens, accounts=None, clock=clock)
        async with _listening(app, authority.server("facade")) as port:
            kubeconfig.write(
                directory / "kubeconfig",
                server=f"https://127.0.0.1:{port}",
                authority=authority.pem,
                token=tokens.ensure("admin", ("system:masters",)),
                user="admin",
            )
            async with RemoteCluster.from_kubeconfig(directory / "kubeconfig") as cluster:
                yield cluster


@asynccontextmanager
async def _listening(app: Starlette, certificate: Certificate) -> AsyncIterator[int]:
    """Serve on this very event loop; without uvicorn's main loop, whose ticks would make every test slower."""
    options = {**UVICORN_OPTIONS, "port": 0, "log_config": None}
    config = uvicorn.Config(app, ssl_certfile=certificate.certificate, ssl_keyfile=certificate.key, **options)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


SERVERS: dict[str, Opener] = {"https": open_https, "local": open_local}
ALL_IMPLEMENTATIONS: dict[str, Opener] = {"fake": open_fake, **SERVERS}


@pytest.fixture(autouse=True)
def frequent_bookmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "BOOKMARK_S", 0.05)


@pytest.fixture(params=sorted(ALL_IMPLEMENTATIONS))
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with ALL_IMPLEMENTATIONS[request.param](tmp_path) as cluster:
        yield cluster


@pytest.fixture(params=sorted(SERVERS))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with SERVERS[request.param](tmp_path) as cluster:
        yield cluster


async def _namespace(cluster: Cluster) -> str:
    return (await cluster.create(NAMESPACE, {"metadata": {"name": f"contract-{name_suffix()}"}})).name


@pytest.fixture
async def namespace(cluster: Cluster) -> str:
    """A namespace of the test's own, in `cluster`."""
    return await _namespace(cluster)


@pytest.fixture
async def room(server: Cluster) -> str:
    """A namespace of the test's own, in `server`."""
    return await _namespace(server)
