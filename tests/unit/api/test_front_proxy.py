"""For whom the API server asks, and what the cluster is asked about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from headrace.api.delegation import Delegated
from headrace.api.front_proxy import FrontProxy, caller, front_proxy
from headrace.api.front_proxy import attributes as attributes_of
from headrace.clock import FakeClock
from headrace.cluster.access import ACCESS_REVIEWS as REVIEWS
from headrace.cluster.access import Caller, access_review
from headrace.cluster.fake import FakeCluster
from headrace.errors import EngineFailed, Unavailable
from headrace.spec.kind import Json

DATA = {
    "requestheader-client-ca-file": "PEM",
    "requestheader-allowed-names": '["front-proxy-client"]',
    "requestheader-username-headers": '["X-Remote-User"]',
    "requestheader-group-headers": '["X-Remote-Group"]',
    "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
}
PROXY = front_proxy({"data": DATA})
READS = "/apis/reads.headrace.io/v1alpha1"


def test_the_config_map_is_read() -> None:
    assert (PROXY.authority, PROXY.names) == ("PEM", ("front-proxy-client",))
    assert PROXY.uid_headers == ("X-Remote-Uid",)


@pytest.mark.parametrize(
    ("data", "says"),
    [({}, "no requestheader-client-ca-file"), ({**DATA, "requestheader-allowed-names": "x"}, "is no list")],
)
def test_a_cluster_without_aggregation_says_so(data: Json, says: str) -> None:
    with pytest.raises(EngineFailed, match=says):
        front_proxy({"data": data})


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], None),
        ([("x-remote-user", "")], None),
        ([("x-remote-group", "g")], None),
        ([("X-Remote-User", "ann")], Caller(name="ann")),
        (
            [("x-remote-user", "ann"), ("x-remote-group", "a"), ("X-REMOTE-GROUP", "b"), ("x-remote-uid", "7")],
            Caller(name="ann", groups=("a", "b"), uid="7"),
        ),
        (
            [
                ("x-remote-user", "ann"),
                ("x-remote-extra-example.org%2fid", "1"),
                ("x-remote-extra-example.org%2fid", "2"),
            ],
            Caller(name="ann", extra={"example.org/id": ("1", "2")}),
        ),
    ],
)
def test_whom_headers_name(headers: Sequence[tuple[str, str]], found: Caller | None) -> None:
    assert caller(headers, PROXY) == found


@pytest.mark.parametrize(
    ("method", "path", "attributes"),
    [
        ("GET", f"{READS}/usage", {"resource": "usage", "verb": "list"}),
        ("GET", f"{READS}/usage/replay", {"resource": "usage", "name": "replay", "verb": "get"}),
        ("POST", f"{READS}/namespaces/v/quote", {"namespace": "v", "resource": "quote", "verb": "create"}),
        (
            "GET",
            f"{READS}/namespaces/v/trainjobs/a%2Fb/waiting",
            {"namespace": "v", "resource": "trainjobs", "name": "a/b", "subresource": "waiting", "verb": "get"},
        ),
        ("PUT", f"{READS}/namespaces/v/code/d", {"namespace": "v", "resource": "code", "name": "d", "verb": "update"}),
    ],
)
def test_a_path_is_what_the_api_server_finds_in_it(method: str, path: str, attributes: Json) -> None:
    review = access_review(Caller(name="ann", groups=("g",)), attributes_of(method, path))
    expected = {"group": "reads.headrace.io", "version": "v1alpha1", **attributes}
    assert review["spec"] == {"user": "ann", "groups": ["g"], "resourceAttributes": expected}


@pytest.mark.parametrize("path", [READS, "/openapi/v3", "/"])
def test_documents_are_no_resources(path: str) -> None:
    review = access_review(Caller(name="ann"), attributes_of("GET", path))
    assert review["spec"]["nonResourceAttributes"] == {"verb": "get", "path": path}


# -- the gate --------------------------------------------------------------------------------------------------------------


class Gate:
    """An application behind the gate, and a cluster that allows what `rights` says."""

    def __init__(self, fake: FakeCluster) -> None:
        self.clock = FakeClock()
        self.rights: dict[str, bool] = {}
        self.proxy: FrontProxy | None = PROXY
        self._fake = fake
        fake.script_request("POST", REVIEWS, self._review)

        async def hello(_request: Request) -> Response:
            return PlainTextResponse("hello")

        gate = Middleware(Delegated, proxy=self._known, cluster=fake, clock=self.clock)
        self._client = TestClient(Starlette(routes=[Route("/{path:path}", hello)], middleware=[gate]))

    def get(self, user: str = "", path: str = f"{READS}/usage") -> tuple[int, Any]:
        answer = self._client.get(path, headers={"X-Remote-User": user} if user else {})
        return answer.status_code, answer.text if answer.status_code == 200 else json.loads(answer.text)

    @property
    def asked(self) -> int:
        return self._fake.count("request")

    def _known(self) -> FrontProxy:
        if self.proxy is None:
            raise Unavailable("Nobody may ask yet.")
        return self.proxy

    def _review(self, _query: Any, body: Json) -> Json:
        is_allowed = self.rights.get(body["spec"]["user"], False)
        return {"status": {"allowed": is_allowed, "reason": "" if is_allowed else "because"}}


@pytest.fixture
def gate() -> Gate:
    return Gate(FakeCluster())


def test_whoever_may_is_let_through_and_others_are_told_why(gate: Gate) -> None:
    gate.rights["ann"] = True
    assert gate.get("ann") == (200, "hello")
    status, body = gate.get("bob")
    assert (status, body["kind"], body["reason"], body["code"]) == (403, "Status", "Forbidden", 403)
    assert "bob cannot GET /apis/reads.headrace.io/v1alpha1/usage: because." in body["message"]


def test_who_is_named_by_nobody_is_unauthorised(gate: Gate) -> None:
    status, body = gate.get()
    assert (status, body["code"], body["reason"]) == (401, 401, "Unauthorized")
    assert gate.asked == 0


def test_before_anything_is_known_it_is_unavailable(gate: Gate) -> None:
    gate.proxy = None
    assert gate.get("ann")[0] == 503


def test_answers_hold_for_seconds_and_for_one_path_only(gate: Gate) -> None:
    gate.rights["ann"] = True
    gate.get("ann")
    gate.rights["ann"] = False
    assert gate.get("ann")[0] == 200
    assert gate.get("ann", f"{READS}/usage/replay")[0] == 403
    gate.clock.advance(10)
    assert gate.get("ann")[0] == 403
    gate.rights["ann"] = True
    gate.clock.advance(5)
    assert gate.get("ann")[0] == 200
    assert gate.asked == 4


def test_a_cluster_that_does_not_answer_lets_nobody_through(gate: Gate) -> None:
    gate._fake.fail_next("request", Unavailable("Away."))
    assert gate.get("ann")[0] == 503


def test_a_denial_wins(gate: Gate) -> None:
    gate._fake.script_request("POST", REVIEWS, {"status": {"allowed": True, "denied": True}})
    assert gate.get("ann")[0] == 403
