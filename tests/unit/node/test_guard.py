"""Who may call a node's endpoint: certificates and tokens, rights, and how long they hold."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from headrace.certificates import make_authority, sign, subject_of
from headrace.clock import FakeClock
from headrace.cluster.access import ACCESS_REVIEWS, TOKEN_REVIEWS, AccessReviews, TokenReviews
from headrace.cluster.fake import FakeCluster
from headrace.errors import Unavailable
from headrace.node.guard import (
    CERTIFICATE,
    CertificateAuthenticator,
    ClusterAuthenticator,
    ClusterAuthorizer,
    Guard,
    UserAuthorizer,
)
from headrace.spec.kind import Json

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
AUTHORITY = make_authority("tests", NOW, dt.timedelta(days=1))


def certificate(user: str, *groups: str) -> bytes:
    return signed(subject_of(user, groups))


def signed(subject: x509.Name) -> bytes:
    made = sign(AUTHORITY, subject, ExtendedKeyUsageOID.CLIENT_AUTH, None, NOW, dt.timedelta(days=1))
    return made.certificate.public_bytes(Encoding.DER)


def application() -> Starlette:
    async def hello(_request: Request) -> Response:
        return PlainTextResponse("hello")

    async def socket(ws: WebSocket) -> None:
        await ws.accept()
        await ws.close()

    return Starlette(routes=[WebSocketRoute("/exec/{rest:path}", socket), Route("/{rest:path}", hello)])


class Door:
    """An endpoint behind its guard, and the cluster that decides."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.fake = FakeCluster()
        self.rights: set[tuple[str, str, str]] = set()
        """User, verb and subresource."""
        self.tokens = {"good": {"username": "bob", "groups": ["g"], "uid": "7", "extra": {"k": ["v"]}}}
        self.asked: list[Json] = []
        self.shown = b""
        self.fake.script_request("POST", ACCESS_REVIEWS, self._review)
        self.fake.script_request("POST", TOKEN_REVIEWS, self._token)
        guarded = Guard(
            application(),
            node="n",
            authenticator=ClusterAuthenticator(TokenReviews(self.fake, self.clock, remembered_for_s=120)),
            authorizer=ClusterAuthorizer(
                AccessReviews(self.fake, self.clock, allowed_for_s=300, denied_for_s=30),
            ),
        )
        self.client = TestClient(self._with_certificate(guarded))

    def get(self, path: str = "/pods", token: str = "", method: str = "GET") -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = self.client.request(method, path, headers=headers)
        return answer.status_code, answer.text

    def _with_certificate(self, app: ASGIApp) -> ASGIApp:
        async def called(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": {CERTIFICATE: self.shown}}, receive, send)

        return called

    def _review(self, _query: Any, body: Json) -> Json:
        self.asked.append(body["spec"])
        asked = body["spec"]["resourceAttributes"]
        is_allowed = (body["spec"]["user"], asked["verb"], asked["subresource"]) in self.rights
        return {"status": {"allowed": is_allowed, "reason": "" if is_allowed else "no role"}}

    def _token(self, _query: Any, body: Json) -> Json:
        user = self.tokens.get(body["spec"]["token"])
        return {"status": {"authenticated": True, "user": user} if user else {"authenticated": False}}


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.mark.parametrize("path", ["/pods", "/healthz", "/containerLogs/ns/p/c", "/nothing"])
def test_nobody_is_let_in_anywhere(door: Door, path: str) -> None:
    for token in ("", "bad"):
        status, said = door.get(path, token)
        assert status == 401
        assert f"Node n does not know who asks for {path}." in said
    assert door.asked == []


def test_a_token_is_its_users(door: Door) -> None:
    door.rights.add(("bob", "get", "pods"))
    assert door.get(token="good") == (200, "hello")
    assert door.asked == [
        {
            "user": "bob",
            "groups": ["g"],
            "uid": "7",
            "extra": {"k": ["v"]},
            "resourceAttributes": {
                "verb": "get",
                "group": "",
                "version": "v1",
                "resource": "nodes",
                "subresource": "pods",
                "name": "n",
            },
        }
    ]


def test_a_certificate_is_its_subjects_whatever_the_token(door: Door) -> None:
    door.shown = certificate("kube-apiserver", "system:masters")
    door.rights.add(("kube-apiserver", "get", "proxy"))
    assert door.get("/containerLogs/ns/p/c", token="good")[0] == 200
    assert (door.asked[0]["user"], door.asked[0]["groups"]) == (
        "kube-apiserver",
        ["system:masters", "system:authenticated"],
    )
    door.shown = signed(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")]))
    assert door.get("/containerLogs/ns/p/c")[0] == 401
    first, last = (x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("kube-apiserver", "ann"))
    door.shown = signed(x509.Name([first, last]))
    assert "ann may not get" in door.get("/containerLogs/ns/p/c")[1]


def test_the_wide_right_does_where_there_is_a_narrow_one(door: Door) -> None:
    door.rights.add(("bob", "get", "proxy"))
    assert door.get("/pods", "good")[0] == 200
    assert door.get("/healthz", "good")[0] == 200
    status, said = door.get("/metrics/resource", "good")
    assert (status, said) == (
        403,
        "bob may not get nodes/metrics of node n: no role. Ask for a role that allows it.",
    )
    assert "bob may not delete nodes/pods or nodes/proxy of node n" in door.get("/pods", "good", "DELETE")[1]
    assert "bob may not OPTIONS nodes/pods" in door.get("/pods", "good", "OPTIONS")[1]


def test_who_may_read_runs_no_commands(door: Door) -> None:
    door.rights.add(("bob", "get", "proxy"))
    headers = {"Authorization": "Bearer good"}
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        door.client.websocket_connect("/exec/ns/p/c", headers=headers),
    ):
        pass
    assert (refused.value.status_code, "bob may not create nodes/proxy" in refused.value.text) == (403, True)
    door.rights.add(("bob", "create", "proxy"))
    door.clock.advance(31)
    with door.client.websocket_connect("/exec/ns/p/c", headers=headers):
        pass


def test_answers_hold_as_long_as_a_kubelets(door: Door) -> None:
    door.rights.add(("bob", "get", "pods"))
    door.get(token="good")
    door.rights.clear()
    door.tokens.clear()
    door.clock.advance(119)
    assert door.get(token="good")[0] == 200
    door.clock.advance(2)
    assert door.get(token="good")[0] == 401
    door.tokens["good"] = {"username": "bob", "groups": ["g"], "uid": "7", "extra": {"k": ["v"]}}
    assert door.get(token="good")[0] == 200
    door.clock.advance(180)
    assert door.get(token="good")[0] == 403
    door.rights.add(("bob", "get", "pods"))
    door.clock.advance(29)
    assert door.get(token="good")[0] == 403
    door.clock.advance(2)
    assert door.get(token="good")[0] == 200


def test_a_cluster_that_does_not_answer_lets_nobody_in(door: Door) -> None:
    def fail(_query: Any, _body: Json) -> Json:
        raise Unavailable("The API server is away.")

    door.fake.script_request("POST", ACCESS_REVIEWS, fail)
    assert door.get(token="good") == (503, "The API server is away.")
    door.fake.script_request("POST", TOKEN_REVIEWS, fail)
    assert door.get(token="other") == (503, "The API server is away.")


def test_the_embedded_engines_node_knows_its_facade() -> None:
    shown = certificate("headrace:facade")

    async def with_certificate(scope: Scope, receive: Receive, send: Send) -> None:
        guarded = Guard(
            application(),
            node="n",
            authenticator=CertificateAuthenticator(),
            authorizer=UserAuthorizer(["headrace:facade"]),
        )
        await guarded({**scope, "state": {CERTIFICATE: shown}}, receive, send)

    client = TestClient(with_certificate)
    assert client.get("/pods").status_code == 200
    shown = certificate("ann", "system:masters")
    assert "ann may not get nodes/pods" in client.get("/pods").text
    shown = b""
    assert client.get("/pods", headers={"Authorization": "Bearer x"}).status_code == 401
