"""Server-side apply and field owners, as every implementation of `Cluster` has them, the fake included.

What a real kube-apiserver says word for word is in `recordings/`; here is what controllers build on.
"""

from __future__ import annotations

from typing import Any

import pytest

from headrace.cluster.protocol import Cluster, JsonPatch, MergePatch, Scope, ServerSideApply
from headrace.errors import Conflict, InvalidSpec, NotFound
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import CONFIG_MAP, DATASET

pytestmark = pytest.mark.anyio


def by(manager: str, *, force: bool = False, metadata: Json | None = None, **data: str) -> ServerSideApply:
    body: Json = {"metadata": {"name": "x", **(metadata or {})}}
    return ServerSideApply(body | ({"data": data} if data else {}), manager, force)


def owners(doc: Doc[Any]) -> dict[tuple[str, str, str], Json]:
    """Return what each manager owns, by name, operation and subresource."""
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): entry["fieldsV1"]
        for entry in doc.meta.get("managedFields") or ()
    }


async def apply(cluster: Cluster, namespace: str, patch: ServerSideApply, **more: Any) -> Doc[Any]:
    return await cluster.patch(CONFIG_MAP, Ref(namespace, "x"), patch, **more)


async def test_apply_makes_what_is_not_there(cluster: Cluster, namespace: str) -> None:
    made = await apply(cluster, namespace, by("one", a="1"))
    assert made.raw["data"] == {"a": "1"}
    assert owners(made) == {("one", "Apply", ""): {"f:data": {"f:a": {}}}}
    assert made.uid
    assert (await cluster.get(CONFIG_MAP, made.ref)).raw == made.raw


async def test_the_same_again_changes_nothing(cluster: Cluster, namespace: str) -> None:
    made = await apply(cluster, namespace, by("one", a="1"))
    assert (await apply(cluster, namespace, by("one", a="1"))).raw == made.raw


async def test_what_is_left_out_goes_unless_others_own_it(cluster: Cluster, namespace: str) -> None:
    await apply(cluster, namespace, by("one", a="1", b="1", c="1"))
    await apply(cluster, namespace, by("two", b="1"))
    await cluster.patch(CONFIG_MAP, Ref(namespace, "x"), MergePatch({"data": {"c": "2"}}))
    left = await apply(cluster, namespace, by("one"))
    assert left.raw["data"] == {"b": "1", "c": "2"}
    assert ("one", "Apply", "") not in owners(left)


async def test_a_conflict_names_its_owner_and_force_takes_over(cluster: Cluster, namespace: str) -> None:
    await apply(cluster, namespace, by("one", a="1"))
    with pytest.raises(Conflict, match=r'^Apply failed with 1 conflict: conflict with "one": \.data\.a'):
        await apply(cluster, namespace, by("two", a="2"))
    taken = await apply(cluster, namespace, by("two", a="2", force=True))
    assert taken.raw["data"] == {"a": "2"}
    assert owners(taken) == {("two", "Apply", ""): {"f:data": {"f:a": {}}}}


async def test_who_creates_and_patches_owns_what_it_wrote(cluster: Cluster, namespace: str) -> None:
    body = {"metadata": {"name": "x", "namespace": namespace, "labels": {"l": "1"}}, "data": {"a": "1"}}
    made = await cluster.create(CONFIG_MAP, body)
    everything = {"f:metadata": {"f:labels": {".": {}, "f:l": {}}}, "f:data": {".": {}, "f:a": {}}}
    assert owners(made) == {("headrace", "Update", ""): everything}
    await apply(cluster, namespace, by("one", b="1"))
    patched = await cluster.patch(CONFIG_MAP, made.ref, MergePatch({"data": {"b": "2"}}))
    assert owners(patched) == {("headrace", "Update", ""): everything | {"f:data": {".": {}, "f:a": {}, "f:b": {}}}}


async def test_the_status_has_owners_of_its_own(cluster: Cluster, namespace: str) -> None:
    spec = {"mounts": [{"mountPoint": "s3://b/a", "name": "a"}]}
    ref = Ref(namespace, "d")
    await cluster.patch(DATASET, ref, ServerSideApply({"metadata": {"name": "d"}, "spec": spec}, "one"))
    body = {"metadata": {"name": "d"}, "status": {"phase": "Bound"}}
    bound = await cluster.patch(DATASET, ref, ServerSideApply(body, "two"), subresource="status")
    assert bound.status["phase"] == "Bound"
    assert owners(bound) == {
        ("one", "Apply", ""): {"f:spec": {"f:mounts": {}}},
        ("two", "Apply", "status"): {"f:status": {"f:phase": {}}},
    }
    other = {"metadata": {"name": "d"}, "status": {"phase": "Failed"}}
    with pytest.raises(Conflict, match=r'conflict with "two" with subresource "status": \.status\.phase'):
        await cluster.patch(DATASET, ref, ServerSideApply(other, "three"), subresource="status")


async def test_the_status_of_nothing_is_not_made(cluster: Cluster, namespace: str) -> None:
    patch = ServerSideApply({"metadata": {"name": "d"}, "status": {"phase": "Bound"}}, "one")
    with pytest.raises(NotFound):
        await cluster.patch(DATASET, Ref(namespace, "d"), patch, subresource="status")


async def test_a_dry_run_answers_and_changes_nothing(cluster: Cluster, namespace: str) -> None:
    told = await apply(cluster, namespace, by("one", a="1"), dry_run=True)
    assert told.raw["data"] == {"a": "1"}
    with pytest.raises(NotFound):
        await cluster.get(CONFIG_MAP, Ref(namespace, "x"))
    made = await apply(cluster, namespace, by("one", a="1"))
    assert (await apply(cluster, namespace, by("one", a="2"), dry_run=True)).raw["data"] == {"a": "2"}
    assert (await cluster.get(CONFIG_MAP, made.ref)).raw == made.raw


async def test_finalizers_are_owned_one_by_one(cluster: Cluster, namespace: str) -> None:
    await apply(cluster, namespace, by("one", metadata={"finalizers": ["example.org/a"]}))
    both = await apply(cluster, namespace, by("two", metadata={"finalizers": ["example.org/b"]}))
    assert both.meta["finalizers"] == ["example.org/a", "example.org/b"]
    left = await apply(cluster, namespace, by("one"))
    assert left.meta["finalizers"] == ["example.org/b"]
    await apply(cluster, namespace, by("two"))


async def test_owners_are_forgotten_and_found_again(cluster: Cluster, namespace: str) -> None:
    made = await apply(cluster, namespace, by("one", a="1"))
    forgotten = await cluster.patch(CONFIG_MAP, made.ref, MergePatch({"metadata": {"managedFields": [{}]}}))
    assert owners(forgotten) == {}
    with pytest.raises(Conflict, match=r'conflict with "before-first-apply" using v1: \.data\.a'):
        await apply(cluster, namespace, by("one", a="2"))
    assert set(owners(await apply(cluster, namespace, by("one", b="2")))) == {
        ("before-first-apply", "Update", ""),
        ("one", "Apply", ""),
    }


async def test_owners_may_be_handed_over(cluster: Cluster, namespace: str) -> None:
    """What kubectl does when it takes over what it applied from the client."""
    body = {"metadata": {"name": "x", "namespace": namespace}, "data": {"a": "1"}}
    made = await cluster.create(CONFIG_MAP, body)
    (entry,) = made.meta["managedFields"]
    handed = [entry | {"manager": "one", "operation": "Apply"}]
    replace = {"op": "replace", "path": "/metadata/managedFields", "value": handed}
    await cluster.patch(CONFIG_MAP, made.ref, JsonPatch([replace]))
    left = await apply(cluster, namespace, by("one"))
    assert not left.raw.get("data")


@pytest.mark.parametrize(
    "patch",
    [
        by("", a="1"),
        by("one", metadata={"managedFields": []}),
        by("one", metadata={"name": "y"}),
        ServerSideApply({"data": {"a": "1"}}, "one"),
    ],
)
async def test_what_is_no_configuration_is_refused(cluster: Cluster, namespace: str, patch: ServerSideApply) -> None:
    with pytest.raises(InvalidSpec):
        await apply(cluster, namespace, patch)
    with pytest.raises(NotFound):
        await cluster.get(CONFIG_MAP, Ref(namespace, "x"))


async def test_lists_have_owners_too(cluster: Cluster, namespace: str) -> None:
    made = await apply(cluster, namespace, by("one", a="1"))
    listed = (await cluster.list(CONFIG_MAP, Scope(namespace, fields="metadata.name=x"))).items
    assert [doc.raw for doc in listed] == [made.raw]


async def test_at_a_version_it_is_compare_and_swap(cluster: Cluster, namespace: str) -> None:
    made = await apply(cluster, namespace, by("one", a="1"))
    at = {"resourceVersion": made.version}
    await apply(cluster, namespace, by("one", metadata=at, a="2"))
    with pytest.raises(Conflict):
        await apply(cluster, namespace, by("one", metadata=at, a="3"))
