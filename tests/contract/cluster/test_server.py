"""What only a whole API server does: defaults, validation, namespaces, immutability, pods' lives, definitions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from headrace.cluster.protocol import Cluster, JsonPatch, MergePatch, Scope
from headrace.errors import AlreadyExists, Conflict, Denied, InvalidSpec, NotFound
from headrace.spec.kind import Doc, Kind, Ref
from headrace.spec.kinds import (
    CONFIG_MAP,
    CRD,
    DATASET,
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    TRAIN_JOB,
)
from headrace.spec.names import FOREGROUND_FINALIZER, ORPHAN_FINALIZER

pytestmark = pytest.mark.anyio
DEADLINE_S = 20


def pod(namespace: str, name: str = "p", **spec: Any) -> dict[str, Any]:
    """A pod that the case itself binds: no scheduler of a living cluster takes it."""
    containers = [{"name": "main", "image": "host", "command": ["true"]}]
    spec = {"containers": containers, "schedulerName": "nobody", **spec}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def config_map(namespace: str, name: str = "x", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, **more}


def paths(refusal: pytest.ExceptionInfo[InvalidSpec]) -> list[str]:
    return [path for path, _ in refusal.value.causes]


# -- defaults and validation -------------------------------------------------------------------------------------------


async def test_defaults_are_filled_in(server: Cluster, room: str) -> None:
    made = await server.create(POD, pod(room))
    assert made.spec["restartPolicy"] == "Always"
    assert made.spec["terminationGracePeriodSeconds"] == 30
    assert made.status["phase"] == "Pending"
    assert made.status["qosClass"] == "BestEffort"


async def test_invalid_objects_are_refused_by_path(server: Cluster, room: str) -> None:
    body = pod(room)
    body["spec"]["containers"] += [{"name": "Main!", "image": "host"}]
    with pytest.raises(InvalidSpec) as refusal:
        await server.create(POD, body)
    assert paths(refusal) == ["spec.containers[1].name"]
    with pytest.raises(NotFound):
        await server.get(POD, Ref(room, "p"))


async def test_values_of_the_wrong_type_are_refused(server: Cluster, room: str) -> None:
    with pytest.raises(InvalidSpec):
        await server.create(POD, pod(room, terminationGracePeriodSeconds="soon"))
    with pytest.raises(InvalidSpec):
        await server.create(CONFIG_MAP, config_map(room, data={"a": 1}))


@pytest.mark.embedded("a real API server drops an unknown field before anybody of ours sees it, and warns")
async def test_our_kinds_name_the_field_that_was_meant(server: Cluster, room: str) -> None:
    body = {"metadata": {"name": "j", "namespace": room}, "spec": {"command": ["true"], "workerz": 2}}
    with pytest.raises(InvalidSpec, match="workers"):
        await server.create(TRAIN_JOB, body)


async def test_fluids_kinds_keep_unknown_fields(server: Cluster, room: str) -> None:
    spec = {"mounts": [{"mountPoint": "s3://a/b", "name": "b"}], "novelty": {"x": 1}}
    made = await server.create(DATASET, {"metadata": {"name": "d", "namespace": room}, "spec": spec})
    assert made.spec["novelty"] == {"x": 1}


@pytest.mark.parametrize("name", ["UPPER", "a_b", "-a", "a" * 254])
async def test_bad_names_are_refused(server: Cluster, room: str, name: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        await server.create(CONFIG_MAP, config_map(room, name))
    assert paths(refusal) == ["metadata.name"]


async def test_bad_labels_are_refused(server: Cluster, room: str) -> None:
    body = config_map(room)
    body["metadata"]["labels"] = {"a": "no spaces"}
    with pytest.raises(InvalidSpec):
        await server.create(CONFIG_MAP, body)


async def test_only_one_owner_is_the_controller(server: Cluster, room: str) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": True}
    body = config_map(room)
    body["metadata"]["ownerReferences"] = [owner, owner | {"uid": "2"}]
    with pytest.raises(InvalidSpec):
        await server.create(CONFIG_MAP, body)


async def test_the_body_must_be_of_the_kind(server: Cluster, room: str) -> None:
    with pytest.raises(InvalidSpec):
        await server.create(CONFIG_MAP, {"kind": "Secret", **config_map(room)})


async def test_plain_secrets_are_encoded(server: Cluster, room: str) -> None:
    body = config_map(room, "s", stringData={"key": "value"})
    made = await server.create(SECRET, body)
    assert made.raw["data"] == {"key": "dmFsdWU="}
    assert made.raw["type"] == "Opaque"
    assert "stringData" not in made.raw


# -- immutability ------------------------------------------------------------------------------------------------------


async def test_an_immutable_config_map_stays(server: Cluster, room: str) -> None:
    made = await server.create(CONFIG_MAP, config_map(room, data={"a": "1"}, immutable=True))
    with pytest.raises(InvalidSpec):
        await server.patch(CONFIG_MAP, made.ref, MergePatch({"data": {"a": "2"}}))


async def test_a_pods_spec_stays_but_for_few_fields(server: Cluster, room: str) -> None:
    made = await server.create(POD, pod(room))
    with pytest.raises(InvalidSpec):
        await server.patch(POD, made.ref, MergePatch({"spec": {"hostname": "other"}}))
    image = JsonPatch([{"op": "replace", "path": "/spec/containers/0/image", "value": "other"}])
    assert (await server.patch(POD, made.ref, image)).spec["containers"][0]["image"] == "other"


async def test_a_claims_spec_stays(server: Cluster, room: str) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    made = await server.create(PERSISTENT_VOLUME_CLAIM, config_map(room, "c", spec=spec))
    assert made.status["phase"] == "Pending"
    with pytest.raises(InvalidSpec):
        await server.patch(PERSISTENT_VOLUME_CLAIM, made.ref, MergePatch({"spec": {"accessModes": ["ReadOnlyMany"]}}))


async def test_a_volumes_source_stays(server: Cluster, room: str) -> None:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/a"}}
    made = await server.create(PERSISTENT_VOLUME, {"metadata": {"name": f"pv-{room}"}, "spec": spec})
    with pytest.raises(InvalidSpec):
        await server.patch(PERSISTENT_VOLUME, made.ref, MergePatch({"spec": {"hostPath": {"path": "/b"}}}))
    await server.delete(PERSISTENT_VOLUME, made.ref)


# -- namespaces --------------------------------------------------------------------------------------------------------


async def test_nothing_is_made_in_a_namespace_that_is_not_there(server: Cluster) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        await server.create(CONFIG_MAP, config_map("nowhere"))


async def test_namespaces_know_their_name_and_phase(server: Cluster, room: str) -> None:
    found = await server.get(NAMESPACE, Ref("", room))
    assert found.labels["kubernetes.io/metadata.name"] == room
    assert found.status["phase"] == "Active"


async def test_nothing_is_made_in_a_namespace_that_goes(server: Cluster, room: str) -> None:
    holder = config_map(room, "holder")
    holder["metadata"]["finalizers"] = ["example.org/hold"]
    await server.create(CONFIG_MAP, holder)
    await server.delete(NAMESPACE, Ref("", room))
    found = await server.get(NAMESPACE, Ref("", room))
    assert found.is_deleting
    assert found.status["phase"] == "Terminating"
    with pytest.raises(Denied, match="being terminated"):
        await server.create(CONFIG_MAP, config_map(room, "late"))
    await server.patch(CONFIG_MAP, Ref(room, "holder"), MergePatch({"metadata": {"finalizers": None}}))


async def test_the_namespace_default_stays(server: Cluster) -> None:
    with pytest.raises(Denied):
        await server.delete(NAMESPACE, Ref("", "default"))


# -- finalizers and propagation ----------------------------------------------------------------------------------------


async def test_no_finalizer_is_added_to_what_is_being_deleted(server: Cluster, room: str) -> None:
    body = config_map(room)
    body["metadata"]["finalizers"] = ["example.org/hold"]
    made = await server.create(CONFIG_MAP, body)
    await server.delete(CONFIG_MAP, made.ref)
    more = MergePatch({"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}})
    with pytest.raises(InvalidSpec, match="no new finalizers"):
        await server.patch(CONFIG_MAP, made.ref, more)
    await server.patch(CONFIG_MAP, made.ref, MergePatch({"metadata": {"finalizers": None}}))


@pytest.mark.parametrize(
    ("propagation", "finalizer"), [("Foreground", FOREGROUND_FINALIZER), ("Orphan", ORPHAN_FINALIZER)]
)
async def test_propagation_becomes_a_finalizer(server: Cluster, room: str, propagation: Any, finalizer: str) -> None:
    body = config_map(room)
    body["metadata"]["finalizers"] = ["example.org/hold"]
    made = await server.create(CONFIG_MAP, body)
    async with server.watch(CONFIG_MAP, Scope(room), since=made.version) as changes:
        await server.delete(CONFIG_MAP, made.ref, propagation=propagation)
        with anyio.fail_after(DEADLINE_S):
            deleted = await anext(change.doc async for change in changes if change.doc.is_deleting)
    assert deleted.finalizers == ("example.org/hold", finalizer)  # a collector, where one works, soon removes it
    await server.patch(CONFIG_MAP, made.ref, MergePatch({"metadata": {"finalizers": None}}))


# -- pods --------------------------------------------------------------------------------------------------------------


async def bound(server: Cluster, room: str, name: str = "p", **spec: Any) -> Doc[Any]:
    made = await server.create(POD, pod(room, name, **spec))
    await server.bind(made.ref, "own")
    return await server.get(POD, made.ref)


async def test_a_pod_is_bound_once(server: Cluster, room: str) -> None:
    found = await bound(server, room)
    assert found.spec["nodeName"] == "own"
    (condition,) = found.status["conditions"]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "True")
    with pytest.raises(Conflict, match="already assigned"):
        await server.bind(found.ref, "cloud")


async def test_a_gated_pod_is_not_bound(server: Cluster, room: str) -> None:
    made = await server.create(POD, pod(room, schedulingGates=[{"name": "example.org/wait"}]))
    with pytest.raises(Conflict, match="schedulingGates"):
        await server.bind(made.ref, "own")


async def test_a_pod_without_a_node_goes_at_once(server: Cluster, room: str) -> None:
    made = await server.create(POD, pod(room))
    await server.delete(POD, made.ref)
    with pytest.raises(NotFound):
        await server.get(POD, made.ref)


async def test_a_pod_on_a_node_waits_for_it(server: Cluster, room: str) -> None:
    found = await bound(server, room, terminationGracePeriodSeconds=60)
    await server.delete(POD, found.ref)
    going = await server.get(POD, found.ref)
    assert going.meta["deletionGracePeriodSeconds"] == 60
    await server.delete(POD, found.ref, grace_s=5)
    shorter = await server.get(POD, found.ref)
    assert shorter.meta["deletionGracePeriodSeconds"] == 5
    assert shorter.meta["deletionTimestamp"] <= going.meta["deletionTimestamp"]
    await server.delete(POD, found.ref, grace_s=30)
    assert (await server.get(POD, found.ref)).meta["deletionGracePeriodSeconds"] == 5
    await server.delete(POD, found.ref, grace_s=0, uid=found.uid)
    with pytest.raises(NotFound):
        await server.get(POD, found.ref)


async def test_an_ended_pod_goes_at_once(server: Cluster, room: str) -> None:
    found = await bound(server, room)
    await server.patch(POD, found.ref, MergePatch({"status": {"phase": "Succeeded"}}), subresource="status")
    await server.delete(POD, found.ref)
    with pytest.raises(NotFound):
        await server.get(POD, found.ref)


async def test_finalizers_outlive_a_pods_grace(server: Cluster, room: str) -> None:
    body = pod(room)
    body["metadata"]["finalizers"] = ["example.org/metered"]
    made = await server.create(POD, body)
    await server.bind(made.ref, "own")
    await server.delete(POD, made.ref)
    free = MergePatch({"metadata": {"finalizers": None}})
    await server.delete(POD, made.ref, grace_s=0)
    assert (await server.get(POD, made.ref)).meta["deletionGracePeriodSeconds"] == 0
    await server.patch(POD, made.ref, free)
    with pytest.raises(NotFound):
        await server.get(POD, made.ref)


async def test_a_pod_whose_finalizer_went_first_waits_for_its_node(server: Cluster, room: str) -> None:
    body = pod(room)
    body["metadata"]["finalizers"] = ["example.org/metered"]
    made = await server.create(POD, body)
    await server.bind(made.ref, "own")
    await server.delete(POD, made.ref)
    await server.patch(POD, made.ref, MergePatch({"metadata": {"finalizers": None}}))
    assert (await server.get(POD, made.ref)).is_deleting
    await server.delete(POD, made.ref, grace_s=0)
    with pytest.raises(NotFound):
        await server.get(POD, made.ref)


async def test_a_pod_is_evicted(server: Cluster, room: str) -> None:
    found = await bound(server, room)
    await server.evict(found.ref, grace_s=7)
    assert (await server.get(POD, found.ref)).meta["deletionGracePeriodSeconds"] == 7
    with pytest.raises(NotFound):
        await server.evict(Ref(room, "absent"))


async def test_pods_are_selected_by_their_node(server: Cluster, room: str) -> None:
    await bound(server, room, "here")
    await server.create(POD, pod(room, "nowhere"))
    found = await server.list(POD, Scope(room, fields="spec.nodeName=own"))
    assert [doc.name for doc in found.items] == ["here"]
    with pytest.raises(InvalidSpec, match="not supported"):
        await server.list(POD, Scope(room, fields="spec.hostname=x"))


async def test_an_agent_makes_its_node_with_its_status(server: Cluster, room: str) -> None:
    name = f"node-{room}"
    made = await server.create(NODE, {"metadata": {"name": name}, "status": {"capacity": {"cpu": "4"}}})
    assert made.status["capacity"] == {"cpu": "4"}
    await server.delete(NODE, made.ref)


# -- definitions -------------------------------------------------------------------------------------------------------


def definition(group: str, **version: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1},
                    "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            },
            "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
        },
    }
    names = {"kind": "Widget", "plural": "widgets", "singular": "widget", "shortNames": ["wd"]}
    versions = [
        {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
            **version,
        }
    ]
    spec = {"group": group, "names": names, "scope": "Namespaced", "versions": versions}
    return {"metadata": {"name": f"widgets.{group}"}, "spec": spec}


def widgets(group: str) -> Kind[Any]:
    return Kind(
        group=group, version="v1", name="Widget", plural="widgets", view=CONFIG_MAP.view, subresources=("status",)
    )


@pytest.fixture
async def group(server: Cluster, room: str) -> AsyncIterator[str]:
    """A group of the test's own, whose definitions are removed."""
    name = f"{room}.example.org"
    yield name
    for found in (await server.list(CRD, limit=0)).items:
        if found.spec["group"] == name:
            await server.delete(CRD, found.ref)


async def conditions_of(server: Cluster, name: str, **expected: str) -> dict[str, str]:
    """Wait until the conditions of a definition are as expected, and return their messages."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            found = (await server.get(CRD, Ref("", name))).status.get("conditions") or ()
            if {each["type"]: each["status"] for each in found} == expected:
                return {each["type"]: each["message"] for each in found}
            await anyio.sleep(0.02)


async def once_served(ask: Callable[[], Awaitable[Doc[Any]]]) -> Doc[Any]:
    """Ask until the kind is served, which is a little after it is established."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            try:
                return await ask()
            except NotFound:
                await anyio.sleep(0.02)


async def test_a_definition_makes_a_kind(server: Cluster, room: str, group: str) -> None:
    kind = widgets(group)
    with pytest.raises(NotFound):
        await server.list(kind)
    await server.create(CRD, definition(group))
    await conditions_of(server, f"widgets.{group}", NamesAccepted="True", Established="True")
    body = {"metadata": {"name": "w", "namespace": room}, "spec": {"size": 3, "odd": 1, "free": {"x": 1}}}
    widget = await once_served(lambda: server.create(kind, body))
    assert widget.spec == {"size": 3, "colour": "red", "free": {"x": 1}}
    assert widget.raw["apiVersion"] == f"{group}/v1"
    for wrong in ({"size": 0}, {"size": "3"}, {"colour": "red"}, {"size": 1, "colour": "green"}):
        with pytest.raises(InvalidSpec):
            await server.create(kind, {"metadata": {"name": "bad", "namespace": room}, "spec": wrong})
    await server.patch(kind, widget.ref, MergePatch({"status": {"phase": "Ready"}}), subresource="status")
    found = await server.get(kind, widget.ref)
    assert (found.status, found.generation) == ({"phase": "Ready"}, 1)


async def test_two_definitions_cannot_share_a_name(server: Cluster, group: str) -> None:
    await server.create(CRD, definition(group))
    await conditions_of(server, f"widgets.{group}", NamesAccepted="True", Established="True")
    other = definition(group)
    other["metadata"]["name"] = f"gadgets.{group}"
    other["spec"]["names"] |= {"plural": "gadgets", "singular": "gadget", "shortNames": []}
    await server.create(CRD, other)
    told = await conditions_of(server, f"gadgets.{group}", NamesAccepted="False", Established="False")
    assert told["NamesAccepted"] == '"WidgetList" is already in use'


async def test_our_kinds_show_as_definitions(server: Cluster) -> None:
    assert (await _dataset(server)).spec["names"]["kind"] == "Dataset"


@pytest.mark.embedded("its own kinds are part of it, and no definition makes them")
async def test_our_kinds_stay(server: Cluster) -> None:
    with pytest.raises(Denied):
        await server.delete(CRD, Ref("", DATASET.resource))


async def test_a_definition_is_named_after_its_kind(server: Cluster, group: str) -> None:
    body = definition(group)
    body["metadata"]["name"] = "other"
    with pytest.raises(InvalidSpec):
        await server.create(CRD, body)
    with pytest.raises(AlreadyExists):
        await server.create(CRD, {"metadata": {"name": DATASET.resource}, "spec": (await _dataset(server)).spec})


async def _dataset(server: Cluster) -> Doc[Any]:
    return await server.get(CRD, Ref("", DATASET.resource))
