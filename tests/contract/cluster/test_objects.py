"""What every implementation of `Cluster` does, the fake included: objects, versions, pages, watches, deletion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from headrace.cluster.protocol import Change, Cluster, JsonPatch, MergePatch, Scope
from headrace.errors import AlreadyExists, Conflict, Expired, InvalidSpec, NotFound
from headrace.spec.kind import Doc, Kind, Ref
from headrace.spec.kinds import CONFIG_MAP, DATASET, QUEUE

pytestmark = pytest.mark.anyio
DEADLINE_S = 10
BOOKMARK_S = 90  # a real API server sends one about every minute


def config_map(namespace: str, name: str = "x", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, **metadata}, "data": {"a": "1"}}


def dataset(namespace: str, name: str = "d", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"mounts": [{"mountPoint": "s3://bucket/a", "name": "a"}]},
    }


async def make(cluster: Cluster, namespace: str, *names: str, **metadata: Any) -> list[Doc[Any]]:
    return [await cluster.create(CONFIG_MAP, config_map(namespace, name, **metadata)) for name in names]


def names(docs: list[Doc[Any]]) -> list[str]:
    """Return the names but that of the ConfigMap which living clusters put into every namespace."""
    return [doc.name for doc in docs if doc.name != "kube-root-ca.crt"]


class Watching:
    """Reads changes with a deadline; bookmarks are skipped."""

    def __init__(self, changes: AsyncIterator[Change[Any]]) -> None:
        self._changes = changes

    async def next(self, *, bookmarks: bool = False) -> Change[Any]:
        with anyio.fail_after(BOOKMARK_S if bookmarks else DEADLINE_S):
            while True:
                change = await anext(self._changes)
                if change.type != "BOOKMARK" or bookmarks:
                    return change

    async def told(self, count: int) -> list[tuple[str, str]]:
        changes = [await self.next() for _ in range(count)]
        return [(change.type, change.doc.name) for change in changes]


@asynccontextmanager
async def watching(cluster: Cluster, where: Scope, since: str, kind: Kind[Any] = CONFIG_MAP) -> AsyncIterator[Watching]:
    async with cluster.watch(kind, where, since=since, idle_timeout_s=BOOKMARK_S) as changes:
        yield Watching(changes)


# -- objects -----------------------------------------------------------------------------------------------------------


async def test_a_created_object_has_what_the_server_gives(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(CONFIG_MAP, config_map(namespace, labels={"app": "web"}))
    assert made.raw["kind"] == "ConfigMap"
    assert made.raw["apiVersion"] == "v1"
    assert made.uid
    assert made.version
    assert made.meta["creationTimestamp"].endswith("Z")
    found = await cluster.get(CONFIG_MAP, made.ref)
    assert found.raw == made.raw
    assert found.view.data == {"a": "1"}


async def test_what_the_caller_does_with_its_body_later_has_no_effect(cluster: Cluster, namespace: str) -> None:
    body = config_map(namespace)
    made = await cluster.create(CONFIG_MAP, body)
    body["data"]["a"] = "changed"
    assert "uid" not in body["metadata"]
    assert (await cluster.get(CONFIG_MAP, made.ref)).view.data == {"a": "1"}


async def test_a_name_is_free_once(cluster: Cluster, namespace: str) -> None:
    await make(cluster, namespace, "x")
    with pytest.raises(AlreadyExists):
        await make(cluster, namespace, "x")


async def test_names_are_generated(cluster: Cluster, namespace: str) -> None:
    body = config_map(namespace)
    body["metadata"] = {"generateName": "run-", "namespace": namespace}
    first, second = await cluster.create(CONFIG_MAP, body), await cluster.create(CONFIG_MAP, body)
    assert first.name.startswith("run-")
    assert len(first.name) > len("run-")
    assert first.name != second.name


async def test_an_absent_object_is_not_found(cluster: Cluster, namespace: str) -> None:
    absent = Ref(namespace, "absent")
    with pytest.raises(NotFound):
        await cluster.get(CONFIG_MAP, absent)
    with pytest.raises(NotFound):
        await cluster.patch(CONFIG_MAP, absent, MergePatch({"data": {}}))
    with pytest.raises(NotFound):
        await cluster.delete(CONFIG_MAP, absent)


async def test_cluster_scoped_objects_have_no_namespace(cluster: Cluster, namespace: str) -> None:
    name = f"queue-{namespace}"
    made = await cluster.create(QUEUE, {"metadata": {"name": name}, "spec": {}})
    assert made.namespace == ""
    assert (await cluster.get(QUEUE, Ref("", name))).uid == made.uid
    await cluster.delete(QUEUE, made.ref)


# -- patches -----------------------------------------------------------------------------------------------------------


async def test_a_merge_patch_sets_and_removes(cluster: Cluster, namespace: str) -> None:
    (made,) = await make(cluster, namespace, "x")
    patch = MergePatch({"data": {"a": None, "b": "2"}, "metadata": {"labels": {"app": "web"}}})
    changed = await cluster.patch(CONFIG_MAP, made.ref, patch)
    assert changed.raw["data"] == {"b": "2"}
    assert changed.labels == {"app": "web"}
    assert changed.version != made.version
    assert (changed.uid, changed.meta["creationTimestamp"]) == (made.uid, made.meta["creationTimestamp"])


async def test_a_json_patch_is_all_or_nothing(cluster: Cluster, namespace: str) -> None:
    (made,) = await make(cluster, namespace, "x")
    good = JsonPatch([{"op": "test", "path": "/data/a", "value": "1"}, {"op": "add", "path": "/data/b", "value": "2"}])
    assert (await cluster.patch(CONFIG_MAP, made.ref, good)).raw["data"] == {"a": "1", "b": "2"}
    bad = JsonPatch([{"op": "add", "path": "/data/c", "value": "3"}, {"op": "test", "path": "/data/a", "value": "9"}])
    with pytest.raises(InvalidSpec):
        await cluster.patch(CONFIG_MAP, made.ref, bad)
    assert (await cluster.get(CONFIG_MAP, made.ref)).raw["data"] == {"a": "1", "b": "2"}


async def test_compare_and_swap(cluster: Cluster, namespace: str) -> None:
    (made,) = await make(cluster, namespace, "x")
    swap = MergePatch({"metadata": {"resourceVersion": made.version}, "data": {"a": "2"}})
    await cluster.patch(CONFIG_MAP, made.ref, swap)
    with pytest.raises(Conflict):
        await cluster.patch(CONFIG_MAP, made.ref, swap)


async def test_of_many_that_compare_and_swap_one_wins(cluster: Cluster, namespace: str) -> None:
    (made,) = await make(cluster, namespace, "x")
    won: list[int] = []

    async def swap(number: int) -> None:
        patch = MergePatch({"metadata": {"resourceVersion": made.version}, "data": {"a": str(number)}})
        try:
            await cluster.patch(CONFIG_MAP, made.ref, patch)
        except Conflict:
            return
        won.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(swap, number)
    assert len(won) == 1
    assert (await cluster.get(CONFIG_MAP, made.ref)).raw["data"] == {"a": str(won[0])}


async def test_patches_at_the_same_moment_all_count(cluster: Cluster, namespace: str) -> None:
    (made,) = await make(cluster, namespace, "x")
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(cluster.patch, CONFIG_MAP, made.ref, MergePatch({"data": {f"k{number}": "1"}}))
    assert len((await cluster.get(CONFIG_MAP, made.ref)).raw["data"]) == 11


async def test_a_patch_that_changes_nothing_makes_no_version(cluster: Cluster, namespace: str) -> None:
    (made,) = await make(cluster, namespace, "x")
    assert (await cluster.patch(CONFIG_MAP, made.ref, MergePatch({"data": {"a": "1"}}))).version == made.version


async def test_identity_cannot_be_patched(cluster: Cluster, namespace: str) -> None:
    (made,) = await make(cluster, namespace, "x")
    with pytest.raises((InvalidSpec, Conflict)):
        await cluster.patch(CONFIG_MAP, made.ref, MergePatch({"metadata": {"name": "other"}}))
    with pytest.raises((InvalidSpec, Conflict)):
        await cluster.patch(CONFIG_MAP, made.ref, MergePatch({"metadata": {"uid": "0"}}))


# -- generation and status ---------------------------------------------------------------------------------------------


async def test_generation_counts_changes_of_what_is_wanted(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(DATASET, dataset(namespace))
    assert made.generation == 1
    labelled = await cluster.patch(DATASET, made.ref, MergePatch({"metadata": {"labels": {"a": "b"}}}))
    assert labelled.generation == 1
    reported = await cluster.patch(DATASET, made.ref, MergePatch({"status": {"phase": "Bound"}}), subresource="status")
    assert reported.generation == 1
    mounts = [{"mountPoint": "s3://bucket/b", "name": "b"}]
    assert (await cluster.patch(DATASET, made.ref, MergePatch({"spec": {"mounts": mounts}}))).generation == 2


async def test_status_is_written_through_its_subresource_only(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(DATASET, dataset(namespace) | {"status": {"phase": "Bound"}})
    assert made.status.get("phase", "") != "Bound"
    ignored = await cluster.patch(DATASET, made.ref, MergePatch({"status": {"phase": "Failed"}}))
    assert ignored.status.get("phase", "") != "Failed"
    both = MergePatch({"status": {"phase": "Bound"}, "spec": {"mounts": [{"mountPoint": "s3://x/y", "name": "y"}]}})
    reported = await cluster.patch(DATASET, made.ref, both, subresource="status")
    assert reported.status["phase"] == "Bound"
    assert reported.spec == made.spec
    changed = await cluster.patch(DATASET, made.ref, MergePatch({"metadata": {"labels": {"a": "b"}}}))
    assert changed.status["phase"] == "Bound"


# -- lists -------------------------------------------------------------------------------------------------------------


async def test_a_list_has_one_namespace_in_order(cluster: Cluster, namespace: str) -> None:
    await make(cluster, namespace, "c", "a", "b")
    assert names((await cluster.list(CONFIG_MAP, Scope(namespace))).items) == ["a", "b", "c"]
    everywhere = await cluster.list(CONFIG_MAP, limit=0)
    assert {(namespace, "a"), (namespace, "b")} <= {doc.ref for doc in everywhere.items}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("tier=front", ["a", "b"]),
        ("tier!=front", ["c", "d"]),
        ("tier in (front,back),app=web", ["a", "c"]),
        ("tier", ["a", "b", "c"]),
        ("!tier", ["d"]),
    ],
)
async def test_labels_select(cluster: Cluster, namespace: str, labels: str, expected: list[str]) -> None:
    await make(cluster, namespace, "a", labels={"tier": "front", "app": "web"})
    await make(cluster, namespace, "b", labels={"tier": "front", "app": "api"})
    await make(cluster, namespace, "c", labels={"tier": "back", "app": "web"})
    await make(cluster, namespace, "d")
    assert names((await cluster.list(CONFIG_MAP, Scope(namespace, labels))).items) == expected


async def test_fields_select(cluster: Cluster, namespace: str) -> None:
    await make(cluster, namespace, "a", "b")
    assert names((await cluster.list(CONFIG_MAP, Scope(namespace, fields="metadata.name=b"))).items) == ["b"]
    assert names((await cluster.list(CONFIG_MAP, Scope(namespace, fields="metadata.name!=b"))).items) == ["a"]


async def test_a_bad_selector_is_refused(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(InvalidSpec):
        await cluster.list(CONFIG_MAP, Scope(namespace, labels="a=("))


async def test_pages_are_of_one_moment(cluster: Cluster, namespace: str) -> None:
    await make(cluster, namespace, "a", "b", "c", "d", "e")
    where = Scope(namespace)
    first = await cluster.list(CONFIG_MAP, where, limit=2)
    await cluster.delete(CONFIG_MAP, Ref(namespace, "c"))
    await make(cluster, namespace, "bb", "f")
    second = await cluster.list(CONFIG_MAP, where, limit=2, resume=first.resume)
    third = await cluster.list(CONFIG_MAP, where, limit=2, resume=second.resume)
    assert [names(page.items) for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert first.version == second.version == third.version
    assert third.resume == ""
    async with watching(cluster, where, first.version) as changes:
        assert await changes.told(3) == [("DELETED", "c"), ("ADDED", "bb"), ("ADDED", "f")]


# -- watches -----------------------------------------------------------------------------------------------------------


async def test_a_watch_tells_every_change_in_order(cluster: Cluster, namespace: str) -> None:
    since = (await cluster.list(CONFIG_MAP, Scope(namespace))).version
    async with watching(cluster, Scope(namespace), since) as changes:
        (made,) = await make(cluster, namespace, "x")
        changed = await cluster.patch(CONFIG_MAP, made.ref, MergePatch({"data": {"a": "2"}}))
        await cluster.delete(CONFIG_MAP, made.ref)
        added, modified, deleted = [await changes.next() for _ in range(3)]
    assert [each.type for each in (added, modified, deleted)] == ["ADDED", "MODIFIED", "DELETED"]
    assert added.doc.raw == made.raw
    assert modified.doc.raw == changed.raw
    assert deleted.doc.raw["data"] == {"a": "2"}
    assert deleted.doc.version not in {made.version, changed.version}


async def test_a_watch_resumes_after_any_version_it_told(cluster: Cluster, namespace: str) -> None:
    since = (await cluster.list(CONFIG_MAP, Scope(namespace))).version
    await make(cluster, namespace, "a", "b", "c")
    async with watching(cluster, Scope(namespace), since) as changes:
        first = await changes.next()
    async with watching(cluster, Scope(namespace), first.doc.version) as changes:
        assert await changes.told(2) == [("ADDED", "b"), ("ADDED", "c")]


async def test_a_watch_keeps_to_its_scope(cluster: Cluster, namespace: str) -> None:
    where = Scope(namespace, labels="on=yes")
    since = (await cluster.list(CONFIG_MAP, where)).version
    async with watching(cluster, where, since) as changes:
        await make(cluster, namespace, "off")
        (made,) = await make(cluster, namespace, "x", labels={"on": "yes"})
        await cluster.patch(CONFIG_MAP, Ref(namespace, "off"), MergePatch({"metadata": {"labels": {"on": "yes"}}}))
        await cluster.patch(CONFIG_MAP, made.ref, MergePatch({"metadata": {"labels": {"on": "no"}}}))
        assert await changes.told(3) == [("ADDED", "x"), ("ADDED", "off"), ("DELETED", "x")]


async def test_a_silent_watch_gets_bookmarks(cluster: Cluster, namespace: str) -> None:
    since = (await cluster.list(CONFIG_MAP, Scope(namespace))).version
    await cluster.create(DATASET, dataset(namespace))
    async with watching(cluster, Scope(namespace), since) as changes:
        bookmark = await changes.next(bookmarks=True)
    assert bookmark.type == "BOOKMARK"
    async with watching(cluster, Scope(namespace), bookmark.doc.version) as changes:
        await make(cluster, namespace, "x")
        assert await changes.told(1) == [("ADDED", "x")]


# -- deletion ----------------------------------------------------------------------------------------------------------


async def test_a_deleted_object_is_gone_and_its_name_free(cluster: Cluster, namespace: str) -> None:
    (made,) = await make(cluster, namespace, "x")
    await cluster.delete(CONFIG_MAP, made.ref)
    with pytest.raises(NotFound):
        await cluster.get(CONFIG_MAP, made.ref)
    (again,) = await make(cluster, namespace, "x")
    assert again.uid != made.uid


async def test_deletion_may_demand_uid_and_version(cluster: Cluster, namespace: str) -> None:
    (made,) = await make(cluster, namespace, "x")
    with pytest.raises(Conflict):
        await cluster.delete(CONFIG_MAP, made.ref, uid="another")
    with pytest.raises(Conflict):
        await cluster.delete(CONFIG_MAP, made.ref, version="1")
    await cluster.delete(CONFIG_MAP, made.ref, uid=made.uid, version=made.version)


async def test_finalizers_keep_a_deleted_object_until_they_are_removed(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(DATASET, dataset(namespace, finalizers=["example.org/a", "example.org/b"]))
    await cluster.delete(DATASET, made.ref)
    kept = await cluster.get(DATASET, made.ref)
    assert kept.is_deleting
    since = kept.version
    await cluster.delete(DATASET, made.ref)
    assert (await cluster.get(DATASET, made.ref)).meta["deletionTimestamp"] == kept.meta["deletionTimestamp"]
    half = await cluster.patch(DATASET, made.ref, MergePatch({"metadata": {"finalizers": ["example.org/b"]}}))
    assert half.finalizers == ("example.org/b",)
    await cluster.patch(DATASET, made.ref, MergePatch({"metadata": {"finalizers": None}}))
    with pytest.raises(NotFound):
        await cluster.get(DATASET, made.ref)
    async with watching(cluster, Scope(namespace), since, DATASET) as changes:
        assert await changes.told(2) == [("MODIFIED", "d"), ("DELETED", "d")]


# -- dry run -----------------------------------------------------------------------------------------------------------


async def test_a_dry_run_answers_and_does_nothing(cluster: Cluster, namespace: str) -> None:
    tried = await cluster.create(CONFIG_MAP, config_map(namespace, "dry"), dry_run=True)
    assert tried.name == "dry"
    with pytest.raises(NotFound):
        await cluster.get(CONFIG_MAP, tried.ref)
    (made,) = await make(cluster, namespace, "x")
    patch = MergePatch({"data": {"a": "2"}})
    assert (await cluster.patch(CONFIG_MAP, made.ref, patch, dry_run=True)).raw["data"] == {"a": "2"}
    assert (await cluster.get(CONFIG_MAP, made.ref)).raw == made.raw
    with pytest.raises(AlreadyExists):
        await cluster.create(CONFIG_MAP, config_map(namespace, "x"), dry_run=True)


async def test_an_unreadable_page_token_is_refused(cluster: Cluster, namespace: str) -> None:
    with pytest.raises((InvalidSpec, Expired)):
        await cluster.list(CONFIG_MAP, Scope(namespace), resume="nonsense!")
