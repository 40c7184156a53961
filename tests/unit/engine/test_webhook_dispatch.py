"""Webhooks in the pipeline, with a caller in memory: order, second rounds, and what is never asked."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.clock import FakeClock
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.refusals import BadRequest
from headrace.engine.pipeline.request import SYSTEM, AdmissionRequest, Request, User
from headrace.engine.pipeline.seeding import builtin_registry, seed
from headrace.engine.pipeline.webhooks.dispatch import Webhooks
from headrace.engine.pipeline.webhooks.matching import Hook
from headrace.engine.pipeline.webhooks.refusals import WebhookDenied, WebhookFailed
from headrace.engine.pipeline.webhooks.review import Unusable
from headrace.engine.store.store import Store
from headrace.errors import EngineFailed, NotFound
from headrace.spec.core.webhooks import ValidatingWebhook, WebhookClientConfig
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import CONFIG_MAP, CRD, MUTATING_WEBHOOKS, POD, VALIDATING_WEBHOOKS

pytestmark = pytest.mark.anyio

Answer = Callable[[Json], Json]


class MemoryCaller:
    """Answers by URL; what was asked is kept as `url operation plural/subresource`."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.requests: list[Json] = []

    async def call(self, client: WebhookClientConfig, body: bytes, timeout_s: int) -> bytes:
        review = json.loads(body)
        request = review["request"]
        subresource = f"/{request['subResource']}" if "subResource" in request else ""
        name = str(client.url).removeprefix("https://")
        self.asked.append(f"{name} {request['operation']} {request['resource']['resource']}{subresource}")
        self.requests.append(request)
        found = self.answers.get(name)
        answer = found(request) if found else {"allowed": True}
        return json.dumps(review | {"response": {"uid": request["uid"], **answer}}).encode()


class Priority:
    """An admitter in process that follows a label, as a builtin one follows a class."""

    async def admit(self, request: AdmissionRequest) -> Json | None:
        if request.kind is not CONFIG_MAP or request.object is None:
            return None
        wanted = (request.object["metadata"].get("labels") or {}).get("class", "none")
        return request.object | {"data": {"priority": wanted}}


@pytest.fixture
def caller() -> MemoryCaller:
    return MemoryCaller()


@pytest.fixture
async def pipeline(tmp_path: Path, caller: MemoryCaller) -> AsyncIterator[Pipeline]:
    async with Store(tmp_path / "objects.db", bookmark_s=0.02) as store:
        made = Pipeline(store, builtin_registry(), clock=FakeClock(), caller=caller)
        await seed(made)
        yield made


def hook(name: str, *resources: str, **more: Any) -> Json:
    plural = list(resources) or ["configmaps"]
    rule = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": plural}
    return {
        "name": f"{name}.example.org",
        "clientConfig": {"url": f"https://{name}"},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


async def configure(pipeline: Pipeline, kind: Kind[Any], *hooks: Json, name: str = "c") -> None:
    body = {"metadata": {"name": name}, "webhooks": list(hooks)}
    await pipeline.handle(SYSTEM, Request(verb="create", kind=kind, body=body))


async def ask(pipeline: Pipeline, verb: Any, kind: Kind[Any] = CONFIG_MAP, name: str = "", **more: Any) -> Json:
    request = Request(verb=verb, kind=kind, namespace=more.pop("namespace", "default"), name=name, **more)
    return (await pipeline.handle(SYSTEM, request)).body


def config_map(name: str = "m", **metadata: Any) -> Json:
    return {"metadata": {"name": name, **metadata}, "data": {}}


def patch(*operations: Json) -> Answer:
    packed = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda _: {"allowed": True, "patchType": "JSONPatch", "patch": packed}


def label(key: str, value: str) -> Answer:
    return patch({"op": "add", "path": "/metadata/labels", "value": {key: value}})


async def test_admitters_see_what_webhooks_changed_and_webhooks_what_admitters_changed_then(
    pipeline: Pipeline, caller: MemoryCaller
) -> None:
    pipeline.admitters.append(Priority())
    caller.answers["late"] = label("class", "high")
    early = hook("early", reinvocationPolicy="IfNeeded")
    await configure(pipeline, MUTATING_WEBHOOKS, early, hook("late"))
    made = await ask(pipeline, "create", body=config_map())
    assert made["data"] == {"priority": "high"}
    assert caller.asked == ["early CREATE configmaps", "late CREATE configmaps", "early CREATE configmaps"]
    assert [request["object"]["data"]["priority"] for request in caller.requests] == ["none", "none", "high"]


async def test_nobody_is_asked_again_when_nothing_changed(pipeline: Pipeline, caller: MemoryCaller) -> None:
    caller.answers["same"] = patch({"op": "add", "path": "/data", "value": {}})
    await configure(pipeline, MUTATING_WEBHOOKS, hook("first", reinvocationPolicy="IfNeeded"), hook("same"))
    await ask(pipeline, "create", body=config_map())
    assert caller.asked == ["first CREATE configmaps", "same CREATE configmaps"]


async def test_a_configuration_is_in_force_and_out_of_it_at_once(pipeline: Pipeline, caller: MemoryCaller) -> None:
    caller.answers["v"] = lambda _: {"allowed": False}
    await configure(pipeline, VALIDATING_WEBHOOKS, hook("v"))
    with pytest.raises(WebhookDenied):
        await ask(pipeline, "create", body=config_map())
    narrowed = {"webhooks": [hook("v", "secrets")]}
    await ask(pipeline, "patch", VALIDATING_WEBHOOKS, "c", namespace="", body=narrowed)
    await ask(pipeline, "create", body=config_map())
    await ask(pipeline, "patch", VALIDATING_WEBHOOKS, "c", namespace="", body={"webhooks": [hook("v")]})
    with pytest.raises(WebhookDenied):
        await ask(pipeline, "delete", name="m")
    await ask(pipeline, "delete", VALIDATING_WEBHOOKS, "c", namespace="")
    await ask(pipeline, "delete", name="m")


async def test_the_first_of_several_refusals_is_told(pipeline: Pipeline, caller: MemoryCaller) -> None:
    for name in ("one", "two"):
        caller.answers[name] = lambda _, name=name: {"allowed": False, "status": {"message": name}}  # type: ignore[misc]
    await configure(pipeline, VALIDATING_WEBHOOKS, hook("one"), hook("two"))
    with pytest.raises(WebhookDenied, match=r'"one.example.org" denied the request: one'):
        await ask(pipeline, "create", body=config_map())
    assert len(caller.asked) == 2


async def test_what_validation_refuses_no_validating_webhook_sees(pipeline: Pipeline, caller: MemoryCaller) -> None:
    await configure(pipeline, VALIDATING_WEBHOOKS, hook("v"))
    with pytest.raises(Exception, match="is invalid"):
        await ask(pipeline, "create", body=config_map("Not A Name"))
    assert caller.asked == []


async def test_fields_that_the_kind_has_not_are_dropped_and_wrong_ones_refused(
    pipeline: Pipeline, caller: MemoryCaller
) -> None:
    await configure(pipeline, MUTATING_WEBHOOKS, hook("m"))
    caller.answers["m"] = patch({"op": "add", "path": "/stranger", "value": 1})
    assert "stranger" not in await ask(pipeline, "create", body=config_map())
    caller.answers["m"] = patch({"op": "add", "path": "/data", "value": "text"})
    with pytest.raises(
        WebhookFailed, match=r'Internal error occurred: admission webhook "m.example.org" made no valid'
    ):
        await ask(pipeline, "create", body=config_map("n"))


async def test_a_webhook_may_not_change_what_an_object_is(pipeline: Pipeline, caller: MemoryCaller) -> None:
    await configure(pipeline, MUTATING_WEBHOOKS, hook("m"))
    caller.answers["m"] = patch({"op": "replace", "path": "/metadata/name", "value": "other"})
    with pytest.raises(EngineFailed, match="changed what identifies the ConfigMap m"):
        await ask(pipeline, "create", body=config_map())


async def test_a_namespace_that_is_not_there_is_told(pipeline: Pipeline) -> None:
    await configure(pipeline, VALIDATING_WEBHOOKS, hook("v", namespaceSelector={"matchLabels": {"a": "b"}}))
    await configure(pipeline, MUTATING_WEBHOOKS, hook("m", namespaceSelector={"matchLabels": {"a": "b"}}))
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await ask(pipeline, "create", namespace="nowhere", body=config_map())


async def test_an_eviction_is_asked_about_and_its_deletion_is_not(pipeline: Pipeline, caller: MemoryCaller) -> None:
    await configure(pipeline, VALIDATING_WEBHOOKS, hook("v", "pods", "pods/*"))
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await ask(pipeline, "create", POD, body=pod)
    binding = {"target": {"kind": "Node", "name": "n"}}
    await ask(pipeline, "create", POD, "p", subresource="binding", body=binding)
    await ask(pipeline, "create", POD, "p", subresource="eviction", body={"metadata": {"name": "p"}})
    assert caller.asked == ["v CREATE pods", "v CREATE pods/binding", "v CREATE pods/eviction"]
    assert caller.requests[1]["object"]["target"] == binding["target"]


async def test_a_scale_is_asked_about_and_may_be_changed(pipeline: Pipeline, caller: MemoryCaller) -> None:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"scale": scale}}
    names = {"plural": "things", "kind": "Thing"}
    spec = {"group": "example.org", "scope": "Namespaced", "names": names, "versions": [version]}
    await ask(pipeline, "create", CRD, namespace="", body={"metadata": {"name": "things.example.org"}, "spec": spec})
    kind = pipeline.registry.find("example.org", "v1", "things").kind
    thing = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"replicas": 1}}
    await ask(pipeline, "create", kind, body=thing)
    await configure(pipeline, MUTATING_WEBHOOKS, hook("m", "things", "things/*"))
    changed = await ask(pipeline, "patch", kind, "t", subresource="scale", body={"spec": {"replicas": 5}})
    assert changed["spec"]["replicas"] == 5
    caller.answers["m"] = patch({"op": "replace", "path": "/spec/replicas", "value": 3})
    changed = await ask(pipeline, "patch", kind, "t", subresource="scale", body={"spec": {"replicas": 9}})
    assert changed["spec"]["replicas"] == 3
    assert caller.asked == 2 * ["m UPDATE things/scale"]
    assert caller.requests[-1]["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert [caller.requests[-1][part]["spec"]["replicas"] for part in ("object", "oldObject")] == [9, 5]


async def test_options_of_a_connection_cannot_be_changed(pipeline: Pipeline, caller: MemoryCaller) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await ask(pipeline, "create", POD, body=pod)
    await configure(pipeline, MUTATING_WEBHOOKS, hook("m", "pods/exec"))
    caller.answers["m"] = patch({"op": "add", "path": "/container", "value": "other"})
    request = Request(verb="create", kind=POD, namespace="default", name="p", subresource="exec")
    with pytest.raises(WebhookFailed, match="not supported for this operation"):
        await pipeline.connect(SYSTEM, request, {"command": ["sh"], "stdin": False})
    assert caller.requests[0]["object"] == {"kind": "PodExecOptions", "apiVersion": "v1", "command": ["sh"]}


async def test_a_webhook_with_effects_refuses_dry_runs(pipeline: Pipeline, caller: MemoryCaller) -> None:
    """Such configurations are refused today; those of an older server may be stored."""
    webhooks = Webhooks(pipeline.store, pipeline.registry, caller)
    request = AdmissionRequest(
        user=SYSTEM, operation="CREATE", kind=CONFIG_MAP, namespace="n", name="m", object=config_map(), dry_run=True
    )
    effectful = Hook("c", "c/h/0", ValidatingWebhook(name="h.example.org", side_effects="Some"))
    asked = webhooks.asked(request)
    with pytest.raises(BadRequest, match=r'admission webhook "h.example.org" does not support dry run'):
        await webhooks.ask(effectful, request, asked, asked.resource, may_patch=False)
    assert caller.asked == []


async def test_a_server_without_a_caller_says_so(tmp_path: Path) -> None:
    async with Store(tmp_path / "objects.db", bookmark_s=0.02) as store:
        pipeline = Pipeline(store, builtin_registry(), clock=FakeClock())
        await seed(pipeline)
        await configure(pipeline, VALIDATING_WEBHOOKS, hook("v"))
        with pytest.raises(WebhookFailed, match="without a way to call any"):
            await ask(pipeline, "create", body=config_map())


async def test_expressions_are_refused(pipeline: Pipeline) -> None:
    conditions = [{"name": "c", "expression": "true"}]
    with pytest.raises(Exception, match=r"webhooks\[0\].matchConditions: Forbidden: CEL expressions are not evaluated"):
        await configure(pipeline, VALIDATING_WEBHOOKS, hook("v", matchConditions=conditions))


async def test_a_failure_that_may_be_ignored_is(pipeline: Pipeline, caller: MemoryCaller) -> None:
    def fail(_: Json) -> Json:
        raise Unusable("failed to call webhook: nobody there")

    caller.answers["m"] = fail
    await configure(pipeline, MUTATING_WEBHOOKS, hook("m", failurePolicy="Ignore"))
    await ask(pipeline, "create", body=config_map())
    await ask(pipeline, "patch", MUTATING_WEBHOOKS, "c", namespace="", body={"webhooks": [hook("m")]})
    with pytest.raises(WebhookFailed, match=r'failed calling webhook "m.example.org": failed to call webhook: nobody'):
        await ask(pipeline, "create", body=config_map("n"))


async def test_a_webhook_that_is_away_cannot_keep_the_server_from_starting(
    pipeline: Pipeline, caller: MemoryCaller
) -> None:
    caller.answers["v"] = lambda _: {"allowed": False}
    await configure(pipeline, VALIDATING_WEBHOOKS, hook("v", "*/*"))
    await configure(pipeline, MUTATING_WEBHOOKS, hook("v", "*/*"))
    await seed(pipeline)
    assert caller.asked == []
    impersonated = User("system:apiserver", ("system:masters", "system:authenticated"))
    with pytest.raises(WebhookDenied):
        await pipeline.handle(
            impersonated, Request(verb="create", kind=CONFIG_MAP, namespace="default", body=config_map())
        )
