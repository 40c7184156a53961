"""Admission webhooks over HTTPS: configurations that clients write, a webhook server of the test's, and what becomes of writes.

Every configuration has a last webhook of its own that refuses one marked object, so that a server that follows
configurations late is waited for; and all but those about configurations concern the test's namespace only.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from inspect import isawaitable
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

Json = dict[str, Any]
GROUP = "/apis/admissionregistration.k8s.io/v1"
KINDS = {"mutating": "MutatingWebhookConfiguration", "validating": "ValidatingWebhookConfiguration"}
CONFIG_MAPS = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
WITHIN_S = 20.0
CLOSE = {"connection": "close"}
"""A kept connection would outlive this server."""


class WebhookServer:
    """Answers at any path as a test says; what it was asked is kept."""

    def __init__(self, ca_bundle: str) -> None:
        self.url = ""
        self.ca_bundle = ca_bundle
        self.answers: dict[str, Callable[[Json], Any]] = {}
        self.asked: list[tuple[str, Json]] = []
        self.queries: list[str] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._serve, methods=["POST"])])

    async def _serve(self, http: HttpRequest) -> Response:
        path, review = http.url.path, await http.json()
        if path == "/marker":
            return _answered(review, {"allowed": False})
        self.asked.append((path, review))
        self.queries.append(http.url.query)
        found = self.answers.get(path)
        answer: Any = found(review) if found else {"allowed": True}
        if isawaitable(answer):
            answer = await answer
        if isinstance(answer, float):
            await anyio.sleep(answer)
            answer = {"allowed": True}
        if isinstance(answer, Response):
            answer.headers.update(CLOSE)
            return answer
        return _answered(review, answer)

    def requests(self, path: str) -> list[Json]:
        return [review["request"] for asked, review in self.asked if asked == path]

    def client(self, path: str) -> Json:
        return {"url": f"{self.url}{path}", "caBundle": self.ca_bundle}


def _answered(review: Json, response: Json) -> Response:
    uid = {"uid": review["request"]["uid"]}
    body = {"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": uid | response}
    return JSONResponse(body, headers=CLOSE)


@pytest.fixture(scope="module")
def webhook_server(run_server: Any, authority: Any) -> Iterator[WebhookServer]:
    made = WebhookServer(base64.b64encode(authority.pem.encode()).decode())

    async def serve(run: Callable[[ASGIApp], Awaitable[None]]) -> None:
        await run(made.app)

    with run_server(serve, authority.server("webhook")) as port:
        made.url = f"https://127.0.0.1:{port}"
        yield made


@pytest.fixture
def webhooks(webhook_server: WebhookServer) -> WebhookServer:
    webhook_server.answers.clear()
    webhook_server.asked.clear()
    webhook_server.queries.clear()
    return webhook_server


class Configured:
    """Writes configurations that concern one namespace, and removes them."""

    def __init__(self, facade: Any, server: WebhookServer, namespace: str) -> None:
        self.facade = facade
        self.namespace = namespace
        self._server = server
        self._made: list[str] = []

    def add(self, effect: str, *hooks: Json, name: str = "a") -> None:
        """Write a configuration and wait until it is in force."""
        mine = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
            "objectSelector": {"matchExpressions": [{"key": "marker", "operator": "DoesNotExist"}]},
        }
        marker = hook("marker", self._server.client("/marker"), objectSelector={"matchLabels": {"marker": name}})
        body = {"metadata": {"name": f"{self.namespace}-{name}"}, "webhooks": [mine | one for one in (*hooks, marker)]}
        collection = f"{GROUP}/{effect}webhookconfigurations"
        self.facade.call("POST", collection, body)
        self._made.append(f"{collection}/{self.namespace}-{name}")
        marked = config_map("marked", labels={"marker": name})
        deadline = time.monotonic() + WITHIN_S
        while "marker.test.example.org" not in self.send("POST", "", marked, query="?dryRun=All")[1]["message"]:
            assert time.monotonic() < deadline, "the configuration is not in force"
            time.sleep(0.05)
        self._server.asked.clear()

    def remove(self) -> None:
        for path in self._made:
            self.facade.call("DELETE", path)

    def send(
        self,
        method: str,
        name: str = "",
        body: Any = None,
        *,
        query: str = "",
        plural: str = "configmaps",
        content_type: str = "application/json",
    ) -> tuple[int, Json]:
        """Send a request about an object of the namespace; return status and body, with warnings as `warnings`."""
        path = f"/api/v1/namespaces/{self.namespace}/{plural}{f'/{name}' if name else ''}{query}"
        content = None if body is None else json.dumps(body)
        with self.facade.client() as client:
            answer = client.request(method, path, content=content, headers={"content-type": content_type})
        found: Json = {"message": "", "warnings": answer.headers.get("warning", "")} | answer.json()
        return answer.status_code, found


@pytest.fixture
def configured(facade: Any, webhooks: WebhookServer, namespace: str) -> Iterator[Configured]:
    made = Configured(facade, webhooks, namespace)
    yield made
    made.remove()


def hook(name: str, client: Json, **more: Any) -> Json:
    """A webhook about ConfigMaps."""
    return {
        "name": f"{name}.test.example.org",
        "clientConfig": client,
        "rules": [CONFIG_MAPS],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


def config_map(name: str, **metadata: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"key": "value"}}


def patch(*operations: Json) -> Json:
    return {
        "allowed": True,
        "patchType": "JSONPatch",
        "patch": base64.b64encode(json.dumps(operations).encode()).decode(),
    }


def add_label(key: str, value: str) -> Callable[[Json], Json]:
    def answer(review: Json) -> Json:
        labels = review["request"]["object"]["metadata"].get("labels") or {}
        return patch({"op": "add", "path": "/metadata/labels", "value": labels | {key: value}})

    return answer


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["mutating", "validating"])
@pytest.mark.parametrize(
    ("status", "code", "reason", "explanation"),
    [
        (None, 400, None, " without explanation"),
        ({"message": "not today"}, 400, None, ": not today"),
        ({"message": "not today", "code": 403, "reason": "Forbidden"}, 403, "Forbidden", ": not today"),
        ({"reason": "Conflict"}, 400, "Conflict", ": Conflict"),
        ({"message": "fine", "code": 200, "status": "Success"}, 400, None, ": fine"),
        ({"message": "busy", "code": 503}, 503, None, ": busy"),
    ],
)
def test_a_refusal_is_the_webhooks_own(
    configured: Configured,
    webhooks: WebhookServer,
    effect: str,
    status: Json | None,
    code: int,
    reason: str | None,
    explanation: str,
) -> None:
    configured.add(effect, hook("deny", webhooks.client("/deny")))
    webhooks.answers["/deny"] = lambda _: {"allowed": False} | ({"status": status} if status else {})
    answered, body = configured.send("POST", "", config_map("c"))
    assert answered == code
    assert (body["code"], body.get("reason"), body["status"]) == (code, reason, "Failure")
    assert body["message"] == f'admission webhook "deny.test.example.org" denied the request{explanation}'
    assert configured.send("GET", "c")[0] == 404


def test_details_of_a_refusal_are_passed_on(configured: Configured, webhooks: WebhookServer) -> None:
    details = {
        "name": "c",
        "kind": "configmaps",
        "causes": [{"reason": "FieldValueInvalid", "message": "m", "field": "data"}],
    }
    configured.add("validating", hook("deny", webhooks.client("/deny")))
    webhooks.answers["/deny"] = lambda _: {"allowed": False, "status": {"message": "no", "details": details}}
    assert configured.send("POST", "", config_map("c"))[1]["details"] == details


def test_warnings_are_passed_on(configured: Configured, webhooks: WebhookServer) -> None:
    configured.add("mutating", hook("m", webhooks.client("/m")), name="m")
    configured.add("validating", hook("v", webhooks.client("/v")), name="v")
    webhooks.answers["/m"] = lambda _: {"allowed": True, "warnings": ["from m"]}
    webhooks.answers["/v"] = lambda _: {"allowed": True, "warnings": ["from v"]}
    code, body = configured.send("POST", "", config_map("c"))
    assert code == 201
    assert '"from m"' in body["warnings"]
    assert '"from v"' in body["warnings"]


# -- changes -----------------------------------------------------------------------------------------------------------


def test_mutating_webhooks_follow_each_other_by_configuration_and_place(
    configured: Configured, webhooks: WebhookServer
) -> None:
    for path in ("/1", "/2", "/3"):
        webhooks.answers[path] = add_label(f"l{path[1:]}", "x")
    configured.add("mutating", hook("three", webhooks.client("/3")), name="b")
    configured.add("mutating", hook("one", webhooks.client("/1")), hook("two", webhooks.client("/2")), name="a")
    code, made = configured.send("POST", "", config_map("c"))
    assert code == 201, made
    assert made["metadata"]["labels"] == {"l1": "x", "l2": "x", "l3": "x"}
    assert [path for path, _ in webhooks.asked] == ["/1", "/2", "/3"]
    assert webhooks.requests("/3")[0]["object"]["metadata"]["labels"] == {"l1": "x", "l2": "x"}


def test_validating_webhooks_see_what_mutating_ones_made(configured: Configured, webhooks: WebhookServer) -> None:
    webhooks.answers["/m"] = add_label("mutated", "yes")
    configured.add("validating", hook("v", webhooks.client("/v")), name="v")
    configured.add("mutating", hook("m", webhooks.client("/m")), name="m")
    assert configured.send("POST", "", config_map("c"))[0] == 201
    assert webhooks.requests("/v")[0]["object"]["metadata"]["labels"] == {"mutated": "yes"}


@pytest.mark.parametrize(("policy", "times"), [("Never", 1), ("IfNeeded", 2)])
def test_a_webhook_is_asked_again_when_a_later_one_changed_the_object(
    configured: Configured, webhooks: WebhookServer, policy: str, times: int
) -> None:
    webhooks.answers["/late"] = add_label("late", "x")
    early = hook("early", webhooks.client("/early"), reinvocationPolicy=policy)
    configured.add("mutating", early, hook("late", webhooks.client("/late")))
    assert configured.send("POST", "", config_map("c"))[0] == 201
    assert len(webhooks.requests("/early")) == times
    assert len(webhooks.requests("/late")) == 1


def test_a_patch_of_no_object_is_an_error(configured: Configured, webhooks: WebhookServer) -> None:
    configured.add("mutating", hook("m", webhooks.client("/m")))
    assert configured.send("POST", "", config_map("c"))[0] == 201
    webhooks.answers["/m"] = lambda _: patch({"op": "add", "path": "/metadata/labels", "value": {"a": "b"}})
    code, body = configured.send("DELETE", "c")
    assert (code, body["reason"]) == (500, "InternalError")
    assert body["message"] == (
        'Internal error occurred: admission webhook "m.test.example.org" attempted to modify the object, '
        "which is not supported for this operation"
    )


def test_a_patch_that_does_not_apply_is_an_error_whatever_the_policy(
    configured: Configured, webhooks: WebhookServer
) -> None:
    configured.add("mutating", hook("m", webhooks.client("/m"), failurePolicy="Ignore"))
    webhooks.answers["/m"] = lambda _: patch({"op": "remove", "path": "/metadata/labels/none"})
    code, body = configured.send("POST", "", config_map("c"))
    assert (code, body["reason"]) == (500, "InternalError")
    assert body["message"].startswith("Internal error occurred: ")


# -- what is asked -----------------------------------------------------------------------------------------------------


def test_what_a_webhook_is_asked(configured: Configured, webhooks: WebhookServer, namespace: str) -> None:
    configured.add("mutating", hook("m", webhooks.client("/m"), timeoutSeconds=7), name="m")
    configured.add("validating", hook("v", webhooks.client("/v")), name="v")
    assert configured.send("POST", "", config_map("c"), query="?fieldManager=me")[0] == 201
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert configured.send("PATCH", "c", labels, content_type="application/merge-patch+json")[0] == 200
    assert configured.send("DELETE", "c")[0] == 200
    assert {"timeout=7s", "timeout=10s"} <= set(webhooks.queries)
    for path in ("/m", "/v"):
        created, updated, deleted = webhooks.requests(path)
        for asked in (created, updated, deleted):
            assert asked["kind"] == asked["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
            resource = {"group": "", "version": "v1", "resource": "configmaps"}
            assert asked["resource"] == asked["requestResource"] == resource
            assert (asked["name"], asked["namespace"], asked["dryRun"]) == ("c", namespace, False)
            assert asked["userInfo"]["username"]
            assert "system:masters" in asked["userInfo"]["groups"]
            assert "subResource" not in asked
        assert [asked["operation"] for asked in (created, updated, deleted)] == ["CREATE", "UPDATE", "DELETE"]
        assert created["object"]["kind"] == "ConfigMap"
        assert created["object"]["data"] == {"key": "value"}
        assert created["oldObject"] is None
        assert created["options"]["kind"] == "CreateOptions"
        assert created["options"]["fieldManager"] == "me"
        assert updated["object"]["metadata"]["labels"] == {"a": "b"}
        assert "labels" not in updated["oldObject"]["metadata"]
        assert updated["options"]["kind"] == "UpdateOptions" or updated["options"]["kind"] == "PatchOptions"
        assert deleted["object"] is None
        assert deleted["oldObject"]["metadata"]["labels"] == {"a": "b"}
        assert deleted["options"]["kind"] == "DeleteOptions"
    assert "uid" not in webhooks.requests("/m")[0]["object"]["metadata"]
    assert webhooks.requests("/v")[0]["object"]["metadata"]["uid"]


def test_a_dry_run_says_so(configured: Configured, webhooks: WebhookServer) -> None:
    configured.add("mutating", hook("m", webhooks.client("/m")))
    webhooks.answers["/m"] = add_label("a", "b")
    code, made = configured.send("POST", "", config_map("c"), query="?dryRun=All")
    assert (code, made["metadata"]["labels"]) == (201, {"a": "b"})
    assert webhooks.requests("/m")[0]["dryRun"] is True
    assert configured.send("GET", "c")[0] == 404


def test_the_older_review_is_spoken_too(configured: Configured, webhooks: WebhookServer) -> None:
    configured.add("mutating", hook("m", webhooks.client("/m"), admissionReviewVersions=["v9", "v1beta1", "v1"]))
    assert configured.send("POST", "", config_map("c"))[0] == 201
    assert webhooks.asked[-1][1]["apiVersion"] == "admission.k8s.io/v1beta1"


@pytest.mark.parametrize(
    ("more", "is_asked"),
    [
        ({"objectSelector": {"matchLabels": {"app": "web"}}}, True),
        ({"objectSelector": {"matchLabels": {"app": "db"}}}, False),
        ({"objectSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}}, False),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}, False),
        ({"rules": [CONFIG_MAPS | {"operations": ["UPDATE", "DELETE"]}]}, False),
        ({"rules": [CONFIG_MAPS | {"resources": ["*"], "apiGroups": ["*"], "apiVersions": ["*"]}]}, True),
        ({"rules": [CONFIG_MAPS | {"resources": ["*/*"]}]}, True),
        ({"rules": [CONFIG_MAPS | {"resources": ["configmaps/*"]}]}, True),
        ({"rules": [CONFIG_MAPS | {"resources": ["configmaps/status"]}]}, False),
        ({"rules": [CONFIG_MAPS | {"apiGroups": ["apps"]}]}, False),
        ({"rules": [CONFIG_MAPS | {"apiVersions": ["v2"]}]}, False),
        ({"rules": [CONFIG_MAPS | {"scope": "Namespaced"}]}, True),
        ({"rules": [CONFIG_MAPS | {"scope": "Cluster"}]}, False),
    ],
)
def test_only_who_is_concerned_is_asked(
    configured: Configured, webhooks: WebhookServer, more: Json, is_asked: bool
) -> None:
    configured.add("validating", hook("v", webhooks.client("/v"), **more))
    assert configured.send("POST", "", config_map("c", labels={"app": "web"}))[0] == 201
    assert bool(webhooks.requests("/v")) == is_asked


def test_subresources(configured: Configured, webhooks: WebhookServer) -> None:
    everything = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"]}
    about = hook("v", webhooks.client("/v"), rules=[everything | {"resources": ["pods/status", "pods/eviction"]}])
    configured.add("validating", about)
    container = {"name": "main", "image": "host"}
    gates = [{"name": "example.org/wait"}]
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "schedulingGates": gates}}
    assert configured.send("POST", "", pod, plural="pods")[0] == 201
    assert webhooks.asked == []
    status = {"status": {"message": "hello"}}
    merge = "application/merge-patch+json"
    assert configured.send("PATCH", "p/status", status, plural="pods", content_type=merge)[0] == 200
    asked = webhooks.requests("/v")[-1]
    assert (asked["operation"], asked["subResource"], asked["requestSubResource"]) == ("UPDATE", "status", "status")
    assert asked["kind"]["kind"] == "Pod"
    assert asked["object"]["status"]["message"] == "hello"
    webhooks.answers["/v"] = lambda _: {"allowed": False, "status": {"message": "stay"}}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    code, body = configured.send("POST", "p/eviction", eviction, plural="pods")
    assert (code, body["message"]) == (400, 'admission webhook "v.test.example.org" denied the request: stay')
    asked = webhooks.requests("/v")[-1]
    assert (asked["operation"], asked["subResource"]) == ("CREATE", "eviction")
    assert asked["kind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}
    assert asked["object"]["metadata"]["name"] == "p"
    assert configured.send("GET", "p", plural="pods")[0] == 200


def test_what_is_posted_to_subresources(configured: Configured, webhooks: WebhookServer, namespace: str) -> None:
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"]}
    rule["resources"] = ["pods/binding", "serviceaccounts/token"]
    configured.add("mutating", hook("m", webhooks.client("/m"), rules=[rule]))
    webhooks.answers["/m"] = lambda _: {"allowed": False, "status": {"message": "no"}}
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "main", "image": "host"}], "schedulerName": "nobody"},
    }
    assert configured.send("POST", "", pod, plural="pods")[0] == 201
    target = {"apiVersion": "v1", "kind": "Node", "name": "some-node"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target}
    assert configured.send("POST", "p/binding", binding, plural="pods")[0] == 400
    asked = webhooks.requests("/m")[-1]
    assert asked["kind"] == {"group": "", "version": "v1", "kind": "Binding"}
    assert asked["object"]["target"] == target
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    assert configured.send("POST", "", account, plural="serviceaccounts")[0] == 201
    token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
    assert configured.send("POST", "robot/token", token, plural="serviceaccounts")[0] == 400
    asked = webhooks.requests("/m")[-1]
    assert asked["kind"] == {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}
    assert (asked["operation"], asked["subResource"], asked["name"]) == ("CREATE", "token", "robot")


@pytest.mark.parametrize("effect", ["mutating", "validating"])
@pytest.mark.parametrize(
    ("subresource", "query", "options"),
    [
        (
            "exec",
            "?command=echo&command=hello&stdout=true&container=main",
            {"kind": "PodExecOptions", "container": "main", "stdout": True, "command": ["echo", "hello"]},
        ),
        ("portforward", "?ports=80", {"kind": "PodPortForwardOptions", "ports": [80]}),
    ],
)
def test_connections(
    configured: Configured, webhooks: WebhookServer, effect: str, subresource: str, query: str, options: Json
) -> None:
    rule = {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/*"]}
    configured.add(
        effect,
        hook("v", webhooks.client("/v"), rules=[rule], objectSelector={}),
        hook("none", webhooks.client("/none"), rules=[rule]),  # a selector of labels is not met by what has none
    )
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "main", "image": "host"}], "schedulerName": "nobody"},
    }
    assert configured.send("POST", "", pod, plural="pods")[0] == 201
    webhooks.answers["/v"] = lambda _: {"allowed": False, "status": {"message": "keep out", "code": 403}}
    code, body = configured.send("POST", f"p/{subresource}", query=query, plural="pods")
    assert (code, body["message"]) == (403, 'admission webhook "v.test.example.org" denied the request: keep out')
    [asked] = webhooks.requests("/v")
    assert (asked["operation"], asked["subResource"], asked["name"]) == ("CONNECT", subresource, "p")
    assert asked["kind"] == asked["requestKind"] == {"group": "", "version": "v1", "kind": options["kind"]}
    assert asked["resource"] == {"group": "", "version": "v1", "resource": "pods"}
    assert asked["object"] == {"apiVersion": "v1", **options}
    assert (asked["oldObject"], asked["options"]) == (None, None)
    assert webhooks.requests("/none") == []


def test_a_namespace_is_its_own(facade: Any, configured: Configured, webhooks: WebhookServer, namespace: str) -> None:
    rule = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"]}
    ours = {"matchLabels": {"of": namespace}}
    about = hook("v", webhooks.client("/v"), rules=[rule | {"scope": "Cluster"}], namespaceSelector=ours)
    configured.add("validating", about)
    other = f"{namespace}-other"
    facade.call("POST", "/api/v1/namespaces", {"metadata": {"name": other, "labels": {"of": namespace}}})
    facade.call("DELETE", f"/api/v1/namespaces/{other}")
    created, deleted, *_ = webhooks.requests("/v")
    for asked in (created, deleted):
        assert (asked["name"], asked["namespace"]) == (other, other)
    assert (created["operation"], deleted["operation"]) == ("CREATE", "DELETE")


@pytest.fixture
def things(facade: Any, namespace: str) -> Iterator[str]:
    """A kind of two versions; the path of its objects but for the version."""
    group = f"{namespace}.example.org"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": name, "served": True, "storage": name == "v1", "schema": schema} for name in ("v1", "v2")]
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    facade.call("POST", definitions, {"metadata": {"name": f"things.{group}"}, "spec": spec})
    deadline = time.monotonic() + WITHIN_S
    with facade.client() as client:
        while not client.get(f"/apis/{group}/v2/things").is_success:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield f"/apis/{group}"
    facade.call("DELETE", f"{definitions}/things.{group}")


@pytest.mark.parametrize(("policy", "is_asked"), [("Equivalent", True), ("Exact", False)])
def test_other_versions_are_equivalent(
    facade: Any,
    configured: Configured,
    webhooks: WebhookServer,
    namespace: str,
    things: str,
    policy: str,
    is_asked: bool,
) -> None:
    group = things.removeprefix("/apis/")
    rule = {"operations": ["*"], "apiGroups": [group], "apiVersions": ["v1"], "resources": ["things"]}
    configured.add("mutating", hook("m", webhooks.client("/m"), rules=[rule], matchPolicy=policy))
    webhooks.answers["/m"] = add_label("a", "b")
    body = {"apiVersion": f"{group}/v2", "kind": "Thing", "metadata": {"name": "t"}}
    made = facade.call("POST", f"{things}/v2/namespaces/{namespace}/things", body)
    assert made["apiVersion"] == f"{group}/v2"
    assert made["metadata"].get("labels") == ({"a": "b"} if is_asked else None)
    if is_asked:
        [asked] = webhooks.requests("/m")
        assert (asked["kind"]["version"], asked["requestKind"]["version"]) == ("v1", "v2")
        assert (asked["resource"]["version"], asked["requestResource"]["version"]) == ("v1", "v2")
        assert asked["object"]["apiVersion"] == f"{group}/v1"


# -- webhooks that fail ------------------------------------------------------------------------------------------------


def failure(configured: Configured, reason: str = "InternalError") -> str:
    """What continues `failed calling webhook "x": ` of a create that fails."""
    code, body = configured.send("POST", "", config_map("c"))
    assert (code, body.get("reason")) == (500, reason), body
    beginning = 'Internal error occurred: failed calling webhook "bad.test.example.org": '
    assert body["message"].startswith(beginning), body
    assert body["details"]["causes"] == [{"message": body["message"].removeprefix("Internal error occurred: ")}]
    return str(body["message"]).removeprefix(beginning)


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.parametrize("effect", ["mutating", "validating"])
def test_a_webhook_that_cannot_be_reached(configured: Configured, webhooks: WebhookServer, effect: str) -> None:
    port = closed_port()
    configured.add(effect, hook("bad", {"url": f"https://127.0.0.1:{port}/bad", "caBundle": webhooks.ca_bundle}))
    assert failure(configured) == (
        f'failed to call webhook: Post "https://127.0.0.1:{port}/bad?timeout=10s": '
        f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    )


@pytest.mark.parametrize("effect", ["mutating", "validating"])
def test_a_failure_may_be_ignored(configured: Configured, effect: str) -> None:
    configured.add(effect, hook("bad", {"url": f"https://127.0.0.1:{closed_port()}"}, failurePolicy="Ignore"))
    assert configured.send("POST", "", config_map("c"))[0] == 201


def test_a_webhook_that_takes_too_long(configured: Configured, webhooks: WebhookServer) -> None:
    configured.add("validating", hook("bad", webhooks.client("/slow"), timeoutSeconds=1))
    webhooks.answers["/slow"] = lambda _: 3.0
    said = failure(configured)
    assert said.startswith(f'failed to call webhook: Post "{webhooks.url}/slow?timeout=1s": ')
    assert "context deadline exceeded" in said


def test_a_certificate_of_nobody_known(configured: Configured, webhooks: WebhookServer) -> None:
    configured.add("validating", hook("bad", {"url": f"{webhooks.url}/v"}))
    assert failure(configured) == (
        f'failed to call webhook: Post "{webhooks.url}/v?timeout=10s": '
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    )


def test_an_authority_that_is_none(configured: Configured, webhooks: WebhookServer) -> None:
    bundle = base64.b64encode(b"no certificate").decode()
    configured.add("validating", hook("bad", webhooks.client("/v") | {"caBundle": bundle}))
    assert failure(configured) == (
        "could not get REST client: unable to load root certificates: unable to parse bytes as PEM block"
    )


def test_a_service_that_is_not_there(configured: Configured, webhooks: WebhookServer, namespace: str) -> None:
    client = {"service": {"name": "nobody", "namespace": namespace, "path": "/v"}, "caBundle": webhooks.ca_bundle}
    configured.add("validating", hook("bad", client))
    assert failure(configured) == (
        f'failed to call webhook: Post "https://nobody.{namespace}.svc:443/v?timeout=10s": service "nobody" not found'
    )


@pytest.mark.parametrize(
    ("effect", "answer", "said"),
    [
        ("validating", Response("broken", 500, media_type="text/plain"), 'failed to call webhook: an error on the server ("broken") has prevented the request from succeeding'),
        ("validating", Response("gone", 404, media_type="text/plain"), "failed to call webhook: the server could not find the requested resource"),
        ("validating", Response("busy", 503, media_type="text/plain"), "failed to call webhook: the server is currently unable to handle the request"),
        ("validating", Response("no", 403, media_type="text/plain"), "failed to call webhook: no"),
        ("validating", Response("", 200, media_type="application/json"), "failed to call webhook: 0-length response with status code: 200 and content type: application/json"),
        ("validating", JSONResponse({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}), "received invalid webhook response: webhook response was absent"),
        ("validating", JSONResponse({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {"uid": "x", "allowed": True}}), 'received invalid webhook response: expected response.uid="{uid}", got "x"'),
        ("validating", patch({"op": "test", "path": "", "value": 1}), "received invalid webhook response: validating webhook may not return response.patch"),
        ("mutating", {"allowed": True, "patch": base64.b64encode(b"[]").decode()}, "received invalid webhook response: webhook returned response.patch but not response.patchType"),
        ("mutating", {"allowed": True, "patchType": "JSONPatch"}, "received invalid webhook response: webhook returned response.patchType but not response.patch"),
        ("mutating", patch({"op": "test", "path": "/kind", "value": "ConfigMap"}) | {"patchType": "Merge"}, 'unsupported patch type "Merge"'),
    ],
)  # fmt: skip
def test_answers_that_are_none(
    configured: Configured, webhooks: WebhookServer, effect: str, answer: Any, said: str
) -> None:
    configured.add(effect, hook("bad", webhooks.client("/bad")))
    webhooks.answers["/bad"] = lambda _: answer
    found = failure(configured)
    assert found == said.replace("{uid}", webhooks.requests("/bad")[-1]["uid"])


def test_an_answer_that_is_no_json(configured: Configured, webhooks: WebhookServer) -> None:
    configured.add("validating", hook("bad", webhooks.client("/bad")))
    webhooks.answers["/bad"] = lambda _: Response("no json", media_type="application/json")
    assert failure(configured).startswith("failed to call webhook: couldn't get version/kind; json parse error: ")


# -- configurations ----------------------------------------------------------------------------------------------------


def test_configurations_are_no_webhooks_concern(facade: Any, webhooks: WebhookServer, namespace: str) -> None:
    rule = {
        "operations": ["*"],
        "apiGroups": ["admissionregistration.k8s.io"],
        "apiVersions": ["*"],
        "resources": ["*"],
    }
    body = {"metadata": {"name": namespace}, "webhooks": [hook("v", webhooks.client("/v"), rules=[rule])]}
    webhooks.answers["/v"] = lambda _: {"allowed": False}
    for effect in ("validating", "mutating"):
        facade.call("POST", f"{GROUP}/{effect}webhookconfigurations", body)
    for effect in ("validating", "mutating"):
        path = f"{GROUP}/{effect}webhookconfigurations/{namespace}"
        labels = {"metadata": {"labels": {"a": "b"}}}
        facade.call("PATCH", path, labels, "application/merge-patch+json")
        facade.call("DELETE", path)
    assert webhooks.asked == []


def test_what_is_not_said_is_filled_in(facade: Any, namespace: str) -> None:
    body = {"metadata": {"name": namespace}, "webhooks": [hook("v", {"service": {"name": "s", "namespace": "n"}})]}
    for effect in ("mutating", "validating"):
        made = facade.call("POST", f"{GROUP}/{effect}webhookconfigurations?dryRun=All", body)
        assert made["kind"] == KINDS[effect]
        expected = hook(
            "v",
            {"service": {"name": "s", "namespace": "n", "port": 443}},
            failurePolicy="Fail",
            matchPolicy="Equivalent",
            namespaceSelector={},
            objectSelector={},
            timeoutSeconds=10,
            rules=[CONFIG_MAPS | {"scope": "*"}],
            **({"reinvocationPolicy": "Never"} if effect == "mutating" else {}),
        )
        assert made["webhooks"] == [expected]


URL = {"url": "https://example.org/x"}


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"name": ""}, "name", "Required value"),
        ({"name": "short"}, "name", 'Invalid value: "short": should be a domain with at least three segments separated by dots'),
        ({"sideEffects": None}, "sideEffects", "Required value: must specify one of None, NoneOnDryRun"),
        ({"sideEffects": "Some"}, "sideEffects", 'Unsupported value: "Some": supported values: "None", "NoneOnDryRun"'),
        ({"timeoutSeconds": 31}, "timeoutSeconds", "Invalid value: 31: the timeout value must be between 1 and 30 seconds"),
        ({"failurePolicy": "Maybe"}, "failurePolicy", 'Unsupported value: "Maybe": supported values: "Fail", "Ignore"'),
        ({"matchPolicy": "Maybe"}, "matchPolicy", 'Unsupported value: "Maybe": supported values: "Equivalent", "Exact"'),
        ({"reinvocationPolicy": "Maybe"}, "reinvocationPolicy", 'Unsupported value: "Maybe": supported values: "IfNeeded", "Never"'),
        ({"admissionReviewVersions": None}, "admissionReviewVersions", "Required value: must specify one of v1, v1beta1"),
        ({"admissionReviewVersions": ["v9"]}, "admissionReviewVersions", 'Invalid value: ["v9"]: must include at least one of v1, v1beta1'),
        ({"admissionReviewVersions": ["v1", "v1"]}, "admissionReviewVersions[1]", 'Invalid value: "v1": duplicate version'),
        ({"clientConfig": {}}, "clientConfig", "Required value: exactly one of url or service is required"),
        ({"clientConfig": {"url": "http://example.org"}}, "clientConfig.url", "Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]"),
        ({"clientConfig": {"url": "https:///x"}}, "clientConfig.url", 'Invalid value: "": host must be specified; desired format: https://host[/path]'),
        ({"clientConfig": {"url": "https://a@example.org"}}, "clientConfig.url", 'Invalid value: "a": user information is not permitted in the URL'),
        ({"clientConfig": {"url": "https://example.org/#f"}}, "clientConfig.url", 'Invalid value: "f": fragments are not permitted in the URL'),
        ({"clientConfig": {"url": "https://example.org/?q=1"}}, "clientConfig.url", 'Invalid value: "q=1": query parameters are not permitted in the URL'),
        ({"clientConfig": {"service": {"namespace": "n", "name": "s", "port": 70000}}}, "clientConfig.service.port", "Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive"),
        ({"clientConfig": {"service": {"namespace": "n", "name": "s", "path": "xyz"}}}, "clientConfig.service.path", "Invalid value: \"xyz\": must start with a '/'"),
        ({"clientConfig": {"service": {"namespace": "n", "name": "s", "path": "/a//b"}}}, "clientConfig.service.path", 'Invalid value: "/a//b": segment[1] may not be empty'),
        ({"rules": [CONFIG_MAPS | {"operations": []}]}, "rules[0].operations", "Required value"),
        ({"rules": [CONFIG_MAPS | {"operations": ["*", "CREATE"]}]}, "rules[0].operations", "Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations"),
        ({"rules": [CONFIG_MAPS | {"operations": ["READ"]}]}, "rules[0].operations[0]", 'Unsupported value: "READ": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"'),
        ({"rules": [CONFIG_MAPS | {"apiGroups": []}]}, "rules[0].apiGroups", "Required value"),
        ({"rules": [CONFIG_MAPS | {"apiVersions": [""]}]}, "rules[0].apiVersions[0]", "Required value"),
        ({"rules": [CONFIG_MAPS | {"resources": []}]}, "rules[0].resources", "Required value"),
        ({"rules": [CONFIG_MAPS | {"resources": ["*/*", "pods"]}]}, "rules[0].resources", "Invalid value: [\"*/*\",\"pods\"]: if '*/*' is present, must not specify other resources"),
        ({"rules": [CONFIG_MAPS | {"resources": ["pods/*", "pods/status"]}]}, "rules[0].resources[1]", "Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status"),
        ({"rules": [CONFIG_MAPS | {"resources": ["*", "pods"]}]}, "rules[0].resources", "Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources"),
        ({"rules": [CONFIG_MAPS | {"scope": "World"}]}, "rules[0].scope", 'Unsupported value: "World": supported values: "*", "Cluster", "Namespaced"'),
        ({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "objectSelector.matchExpressions[0].values", "Required value: must be specified when `operator` is 'In' or 'NotIn'"),
        ({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}, "objectSelector.matchExpressions[0].operator", 'Invalid value: "Like": not a valid selector operator'),
    ],
)  # fmt: skip
def test_configurations_are_judged_in_kubernetes_words(
    facade: Any, namespace: str, changes: Json, field: str, message: str
) -> None:
    made = {key: value for key, value in (hook("v", URL) | changes).items() if value is not None}
    effect = "mutating" if "reinvocationPolicy" in changes else "validating"
    body = {"metadata": {"name": namespace}, "webhooks": [made]}
    with facade.client() as client:
        answer = client.post(f"{GROUP}/{effect}webhookconfigurations", json=body)
    assert answer.status_code == 422, answer.text
    causes = {cause["field"]: cause["message"] for cause in answer.json()["details"]["causes"]}
    assert causes == {f"webhooks[0].{field}": message}


def test_names_are_used_once(facade: Any, namespace: str) -> None:
    body = {"metadata": {"name": namespace}, "webhooks": [hook("v", URL), hook("v", URL)]}
    with facade.client() as client:
        answer = client.post(f"{GROUP}/validatingwebhookconfigurations", json=body)
    assert answer.status_code == 422
    [cause] = answer.json()["details"]["causes"]
    assert (cause["field"], cause["message"]) == ("webhooks[1].name", 'Duplicate value: "v.test.example.org"')


def test_printed(kubectl: Any, configured: Configured, webhooks: WebhookServer, namespace: str) -> None:
    configured.add("validating", hook("v", webhooks.client("/v")))
    printed = kubectl("get", "validatingwebhookconfigurations", f"{namespace}-a").stdout.splitlines()
    assert printed[0].split() == ["NAME", "WEBHOOKS", "AGE"]
    assert printed[1].split()[:2] == [f"{namespace}-a", "2"]
    assert "clientConfig" in kubectl("explain", "mutatingwebhookconfigurations.webhooks").stdout


def test_many_at_once(configured: Configured, webhooks: WebhookServer) -> None:
    """Validating webhooks are asked in parallel: each waits here until all have been asked."""
    together = threading.Barrier(3)

    def meet(_: Json) -> Json:
        together.wait(WITHIN_S)
        return {"allowed": True}

    async def answer(_: Json) -> Json:
        return await anyio.to_thread.run_sync(meet, _)

    names = ("x", "y", "z")
    configured.add("validating", *(hook(name, webhooks.client(f"/{name}")) for name in names))
    for name in names:
        webhooks.answers[f"/{name}"] = answer
    assert configured.send("POST", "", config_map("c"))[0] == 201
