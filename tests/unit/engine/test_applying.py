"""Server-side apply inside the pipeline: rights, races, admission, namespaces; its answers are recorded elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from headrace.clock import FakeClock
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.request import SYSTEM, AdmissionRequest, Answer, Attributes, Request, User
from headrace.engine.pipeline.seeding import builtin_registry, seed
from headrace.engine.store.store import Store
from headrace.errors import Conflict, Denied, InvalidSpec, Unsupported
from headrace.spec.kind import Json
from headrace.spec.kinds import CONFIG_MAP, CRD, NAMESPACE, POD

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pipeline(tmp_path: Path) -> AsyncIterator[Pipeline]:
    async with Store(tmp_path / "objects.db") as store:
        pipeline = Pipeline(store, builtin_registry(), clock=FakeClock())
        await seed(pipeline)
        yield pipeline


def config_map(**data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}


async def apply(pipeline: Pipeline, body: Any, manager: str = "one", **more: Any) -> Answer:
    user = more.pop("user", SYSTEM)
    asked: Json = {"kind": CONFIG_MAP, "namespace": "default", "name": "x", "field_manager": manager} | more
    return await pipeline.handle(user, Request(verb="patch", patch_type="apply", body=body, **asked))


def managers(answer: Answer) -> list[str]:
    return [entry["manager"] for entry in answer.body["metadata"].get("managedFields", ())]


async def test_what_is_made_is_201_and_what_was_there_is_200(pipeline: Pipeline) -> None:
    assert (await apply(pipeline, config_map(a="1"))).status == 201
    assert (await apply(pipeline, config_map(a="2"))).status == 200


async def test_to_make_an_object_one_must_be_allowed_to_create(pipeline: Pipeline) -> None:
    class OnlyPatches:
        def refusal(self, user: User, attributes: Attributes) -> str:
            return "" if attributes.verb == "patch" else "no"

    pipeline.authoriser = OnlyPatches()
    with pytest.raises(Denied, match='cannot create resource "configmaps"'):
        await apply(pipeline, config_map(a="1"))
    pipeline.authoriser = type("All", (), {"refusal": lambda *_: ""})()
    await apply(pipeline, config_map(a="1"))
    pipeline.authoriser = OnlyPatches()
    await apply(pipeline, config_map(a="2"))


async def test_two_who_make_it_at_once_both_own_it(pipeline: Pipeline) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(apply, pipeline, config_map(a="1"), "one")
        tasks.start_soon(apply, pipeline, config_map(b="1"), "two")
    found = await apply(pipeline, config_map(a="1"))
    assert sorted(managers(found)) == ["one", "two"]
    assert found.body["data"] == {"a": "1", "b": "1"}


async def test_nothing_is_made_in_a_namespace_that_ends(pipeline: Pipeline) -> None:
    await pipeline.handle(SYSTEM, Request(verb="create", kind=NAMESPACE, body={"metadata": {"name": "going"}}))
    await pipeline.handle(SYSTEM, Request(verb="delete", kind=NAMESPACE, name="going"))
    with pytest.raises(Denied, match="being terminated"):
        await apply(pipeline, config_map(a="1"), namespace="going")


async def test_what_admission_adds_is_nobodys(pipeline: Pipeline) -> None:
    class Labels:
        async def admit(self, request: AdmissionRequest) -> Json | None:
            assert request.object is not None
            metadata = request.object["metadata"]
            return request.object | {"metadata": metadata | {"labels": {"added": "1"}}}

    pipeline.admitters.append(Labels())
    made = await apply(pipeline, config_map(a="1"))
    assert made.body["metadata"]["labels"] == {"added": "1"}
    assert [entry["fieldsV1"] for entry in made.body["metadata"]["managedFields"]] == [{"f:data": {"f:a": {}}}]


async def test_owners_that_admission_leaves_in_disorder_are_put_back(pipeline: Pipeline) -> None:
    class Careless:
        async def admit(self, request: AdmissionRequest) -> Json | None:
            assert request.object is not None
            return request.object | {"metadata": request.object["metadata"] | {"managedFields": [{"manager": "x"}]}}

    pipeline.admitters.append(Careless())
    made = await apply(pipeline, config_map(a="1"))
    assert managers(made) == ["one"]
    assert "invalid state after admission" in made.warnings[0]


async def test_admission_sees_a_creation_and_then_updates(pipeline: Pipeline) -> None:
    class Watching:
        seen: list[str] = []

        async def admit(self, request: AdmissionRequest) -> Json | None:
            self.seen.append(request.operation)
            return None

    pipeline.admitters.append(Watching())
    await apply(pipeline, config_map(a="1"))
    await apply(pipeline, config_map(a="2"))
    assert Watching.seen == ["CREATE", "UPDATE"]


async def test_a_conflict_waits_for_nothing_and_changes_nothing(pipeline: Pipeline) -> None:
    before = (await apply(pipeline, config_map(a="1"))).body
    with pytest.raises(Conflict):
        await apply(pipeline, config_map(a="2"), "two")
    assert (await apply(pipeline, config_map(a="1"))).body == before


async def test_a_binding_is_nobodys(pipeline: Pipeline) -> None:
    spec = {"containers": [{"name": "main", "image": "host"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
    await apply(pipeline, pod, kind=POD)
    binding = Request(
        verb="create",
        kind=POD,
        namespace="default",
        name="x",
        subresource="binding",
        body={"target": {"kind": "Node", "name": "own"}},
        field_manager="scheduler",
    )
    await pipeline.handle(SYSTEM, binding)
    bound = await pipeline.handle(SYSTEM, Request(verb="get", kind=POD, namespace="default", name="x"))
    assert bound.body["spec"]["nodeName"] == "own"
    assert managers(bound) == ["one"]


async def test_owners_survive_a_restart_and_are_shared(tmp_path: Path) -> None:
    names = ("x", "y")
    for _ in range(2):
        async with Store(tmp_path / "objects.db") as store:
            pipeline = Pipeline(store, builtin_registry(), clock=FakeClock())
            await seed(pipeline)
            made = [
                await apply(pipeline, config_map(a="1") | {"metadata": {"name": name}}, name=name) for name in names
            ]
            sets = [answer.body["metadata"]["managedFields"][0]["fieldsV1"] for answer in made]
            assert sets[0] is sets[1], "equal sets are one object, read or made"


async def test_what_is_not_served_is_said(pipeline: Pipeline) -> None:
    definition = {
        "metadata": {"name": "things.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    "subresources": {
                        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
                    },
                }
            ],
        },
    }
    await pipeline.handle(SYSTEM, Request(verb="create", kind=CRD, body=definition))
    kind = pipeline.registry.find("example.org", "v1", "things").kind
    thing = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": {"replicas": 1}}
    await apply(pipeline, thing, kind=kind)
    with pytest.raises(Unsupported, match="Scale"):
        await apply(pipeline, {"spec": {"replicas": 2}}, kind=kind, subresource="scale")


@pytest.mark.parametrize("given", ["text", {"a": 1}, [1]])
async def test_owners_must_be_a_list_of_objects(pipeline: Pipeline, given: Any) -> None:
    body = config_map(a="1")
    body["metadata"]["managedFields"] = given
    with pytest.raises(InvalidSpec, match="must be a list"):
        await pipeline.handle(SYSTEM, Request(verb="create", kind=CONFIG_MAP, namespace="default", body=body))
