"""How the embedded engine reaches webhooks: pods behind Services, kept connections, whose certificate it is."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

pytestmark = pytest.mark.embedded("a real cluster's Services need a node and its network")

Json = dict[str, Any]
COLLECTION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


class Webhook:
    """Refuses everything with where it was asked; counts connections. Those it keeps it must close before it ends."""

    def __init__(self) -> None:
        self.peers: list[Any] = []
        self.keeps_connections = False
        self.app = Starlette(routes=[Route("/{path:path}", self._serve, methods=["POST"])])

    async def _serve(self, http: HttpRequest) -> Response:
        self.peers.append(http.scope["client"])
        review = await http.json()
        message = f"{http.headers['host']}{http.url.path}"
        answer = {"uid": review["request"]["uid"], "allowed": False, "status": {"message": message}}
        body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": answer}
        return JSONResponse(body, headers={} if self.keeps_connections else {"connection": "close"})


@pytest.fixture
def serving(run_server: Any, authority: Any) -> Callable[..., Any]:
    """`with serving("web.ns.svc") as (webhook, port):`, with a certificate for these hosts."""

    @contextmanager
    def serve(*hosts: str, **options: Any) -> Iterator[tuple[Webhook, int]]:
        webhook = Webhook()

        async def run_app(run: Callable[[ASGIApp], Awaitable[None]]) -> None:
            await run(webhook.app)

        name = f"webhook-{hosts[0].replace('.', '-')}"
        with run_server(run_app, authority.server(name, list(hosts)), **options) as port:
            yield webhook, port

    return serve


@pytest.fixture
def configure(facade: Any, authority: Any, namespace: str) -> Iterator[Callable[[Json], None]]:
    def configure(client: Json) -> None:
        rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
        hook = {
            "name": "v.example.org",
            "clientConfig": client | {"caBundle": base64.b64encode(authority.pem.encode()).decode()},
            "rules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        facade.call("POST", COLLECTION, {"metadata": {"name": namespace}, "webhooks": [hook]})

    yield configure
    facade.call("DELETE", f"{COLLECTION}/{namespace}")


@pytest.fixture
def refused(facade: Any, namespace: str) -> Callable[[], str]:
    """The sentence with which a ConfigMap is refused."""

    def refused() -> str:
        with facade.client() as client:
            body = {"metadata": {"name": "c"}}
            return str(client.post(f"/api/v1/namespaces/{namespace}/configmaps", json=body).json()["message"])

    return refused


def make_service(facade: Any, namespace: str, target: int | str, **spec: Any) -> None:
    ports = [{"port": 443, "targetPort": target}]
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports, **spec}}
    facade.call("POST", f"/api/v1/namespaces/{namespace}/services", body)


def make_pod(facade: Any, namespace: str, port: int) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    container = {"name": "c", "image": "host", "ports": [{"name": "https", "containerPort": port}]}
    facade.call(
        "POST", pods, {"metadata": {"name": "p", "labels": {"app": "web"}}, "spec": {"containers": [container]}}
    )
    status = {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    facade.call("PATCH", f"{pods}/p/status", {"status": status}, "application/merge-patch+json")


@pytest.mark.parametrize("is_named", [True, False])
def test_a_service_leads_to_a_ready_pod(
    facade: Any, serving: Any, configure: Any, refused: Any, namespace: str, is_named: bool
) -> None:
    host = f"web.{namespace}.svc"
    configure({"service": {"name": "web", "namespace": namespace, "path": "/validate"}})
    with serving(host) as (_, port):
        asked = f'failed calling webhook "v.example.org": failed to call webhook: Post "https://{host}:443/validate?timeout=10s"'
        assert refused() == f'Internal error occurred: {asked}: service "web" not found'
        make_service(facade, namespace, "https" if is_named else port)
        assert refused().endswith('no endpoints available for service "web"')
        make_pod(facade, namespace, port)
        assert refused() == f'admission webhook "v.example.org" denied the request: {host}:443/validate'


def test_a_port_that_the_service_has_not(facade: Any, configure: Any, refused: Any, namespace: str) -> None:
    configure({"service": {"name": "web", "namespace": namespace, "port": 8443}})
    make_service(facade, namespace, 1)
    assert refused().endswith('no service port 8443 found for service "web"')


def test_connections_are_kept(serving: Any, configure: Any, refused: Any) -> None:
    with serving("127.0.0.1") as (webhook, port):
        configure({"url": f"https://127.0.0.1:{port}/x"})
        for webhook.keeps_connections in (True, True, True, False):
            assert refused().endswith(f": 127.0.0.1:{port}/x")
        assert len(set(webhook.peers)) == 1


def test_connections_that_the_webhook_drops_are_made_anew(serving: Any, configure: Any, refused: Any) -> None:
    with serving("127.0.0.1", timeout_keep_alive=0) as (webhook, port):
        configure({"url": f"https://127.0.0.1:{port}/x"})
        for webhook.keeps_connections in (*(True,) * 20, False):
            assert refused().endswith(f": 127.0.0.1:{port}/x")


def test_a_certificate_for_somebody_else(serving: Any, configure: Any, refused: Any) -> None:
    with serving("other.example.org") as (webhook, port):
        configure({"url": f"https://127.0.0.1:{port}"})
        assert refused().endswith("tls: failed to verify certificate: x509: certificate is not valid for 127.0.0.1")
        assert webhook.peers == []
