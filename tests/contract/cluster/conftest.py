"""The implementations of `Cluster` that one suite holds to the same answers.

`cluster` is each of them in turn; `server` only those that are whole API servers (defaults, validation, namespaces,
immutability…), which the fake is not; `living` those whose controllers work. With `--kubernetes` each of the three is a
real API server. What a case finds different between them is a bug in ours.

One of each serves a module's cases, which keep to namespaces and names of their own: a real one has to, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from starlette.applications import Starlette

from headrace.clock import SystemClock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Group
from headrace.cluster.fake import FakeCluster, history
from headrace.cluster.protocol import Cluster
from headrace.cluster.remote import RemoteCluster
from headrace.engine import kubeconfig
from headrace.engine.builtin.admission import admitters
from headrace.engine.builtin.assembly import builtin_controllers
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
from headrace.errors import NotFound
from headrace.ids import name_suffix
from headrace.spec.kind import Kind, Ref
from headrace.spec.kinds import CONFIG_MAP, NAMESPACE, SERVICE_ACCOUNT

EQUIPPED_S = 20
Opener = Callable[[Path], AbstractAsyncContextManager[Cluster]]


@pytest.fixture(scope="module")
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


@asynccontextmanager
async def open_living(directory: Path) -> AsyncIterator[Cluster]:
    clock = SystemClock()
    async with Store(directory / "objects.db") as store:
        pipeline = Pipeline(store, builtin_registry(), clock=clock, admitters=admitters(store))
        await seed(pipeline)
        cluster = LocalCluster(pipeline, SYSTEM)
        cache = Cache(cluster)
        volumes = directory / "volumes"
        parts = builtin_controllers(
            cluster, cache, pipeline.registry, clock=clock, volumes=volumes, root_certificate="PEM"
        )
        async with Group(cache, parts):
            yield cluster


REAL = "kubernetes"
SERVERS: dict[str, Opener] = {"https": open_https, "local": open_local}
ALL_IMPLEMENTATIONS: dict[str, Opener] = {"fake": open_fake, **SERVERS, "living": open_living}
FIXTURES = {"cluster": ["fake", *SERVERS], "server": [*SERVERS], "living": ["living"]}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, names in FIXTURES.items():
        if fixture in metafunc.fixturenames:
            names = [REAL] if metafunc.config.getoption("kubernetes") else names
            metafunc.parametrize(fixture, names, indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def frequent_bookmarks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "BOOKMARK_S", 0.05)
        yield


@asynccontextmanager
async def _opened(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[Cluster]:
    if request.param == REAL:
        async with RemoteCluster.from_kubeconfig(request.getfixturevalue(REAL).kubeconfig) as cluster:
            yield cluster
    else:
        async with ALL_IMPLEMENTATIONS[request.param](directory) as cluster:
            yield cluster


@pytest.fixture(scope="module")
async def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with _opened(request, tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with _opened(request, tmp_path_factory.mktemp("server")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
async def living(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A server with its controllers at work."""
    async with _opened(request, tmp_path_factory.mktemp("living")) as cluster:
        yield cluster


@asynccontextmanager
async def _namespace(cluster: Cluster, *, is_real: bool) -> AsyncIterator[str]:
    made = await cluster.create(NAMESPACE, {"metadata": {"name": f"contract-{name_suffix()}"}})
    if is_real:
        await _until_equipped(cluster, made.name)
    yield made.name
    if is_real:
        with suppress(NotFound):
            await cluster.delete(NAMESPACE, made.ref)


async def _until_equipped(cluster: Cluster, namespace: str) -> None:
    """Wait for what its controllers put into a namespace: pods are refused before, and watches would see it come."""
    equipment: tuple[tuple[Kind[Any], str], ...] = ((SERVICE_ACCOUNT, "default"), (CONFIG_MAP, "kube-root-ca.crt"))
    with anyio.fail_after(EQUIPPED_S):
        for kind, name in equipment:
            while True:
                try:
                    await cluster.get(kind, Ref(namespace, name))
                    break
                except NotFound:
                    await anyio.sleep(0.02)


@pytest.fixture
async def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A namespace of the test's own, in `cluster`."""
    async with _namespace(cluster, is_real=request.config.getoption("kubernetes")) as name:
        yield name


@pytest.fixture
async def room(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A namespace of the test's own, in `server` or `living`, whichever the test has."""
    cluster = request.getfixturevalue("living" if "living" in request.fixturenames else "server")
    async with _namespace(cluster, is_real=request.config.getoption("kubernetes")) as name:
        yield name
