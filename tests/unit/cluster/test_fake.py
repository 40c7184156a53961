"""The fake must refuse and answer as a Kubernetes server does, or the tests that stand on it prove nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import ExecResult, JsonPatch, MergePatch, Scope
from headrace.errors import AlreadyExists, Conflict, Expired, InvalidSpec, NotFound, Unavailable
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import CONFIG_MAP, NODE, POD, TRAIN_JOB

pytestmark = pytest.mark.anyio


def job(name: str = "digits", **meta: Any) -> Json:
    return {"metadata": {"name": name, "namespace": "vision", **meta}, "spec": {"command": ["train"]}}


REF = Ref("vision", "digits")


async def test_create_gives_identity_and_drops_what_is_the_servers(fake: FakeCluster) -> None:
    body = {**job(uid="mine", resourceVersion="99", generation=7), "status": {"phase": "Running"}}
    doc = await fake.create(TRAIN_JOB, body)
    assert doc.uid not in {"", "mine"}
    assert (doc.version, doc.generation, doc.status) == ("1", 1, {})
    assert doc.raw["apiVersion"] == "headrace.io/v1alpha1"
    assert doc.raw["kind"] == "TrainJob"
    assert doc.meta["creationTimestamp"] == "2026-01-01T00:00:00Z"
    with pytest.raises(AlreadyExists):
        await fake.create(TRAIN_JOB, body)
    body["spec"]["command"].append("changed by the caller afterwards")
    assert (await fake.get(TRAIN_JOB, REF)).spec["command"] == ["train"]


async def test_names_and_namespaces_are_demanded(fake: FakeCluster) -> None:
    with pytest.raises(InvalidSpec, match="namespaced"):
        await fake.create(TRAIN_JOB, {"metadata": {"name": "a"}})
    with pytest.raises(InvalidSpec, match="not namespaced"):
        await fake.create(NODE, {"metadata": {"name": "a", "namespace": "vision"}})
    with pytest.raises(InvalidSpec, match="no name"):
        await fake.create(NODE, {"metadata": {}})
    first = await fake.create(NODE, {"metadata": {"generateName": "n-"}})
    second = await fake.create(NODE, {"metadata": {"generateName": "n-"}})
    assert first.name != second.name
    assert first.name.startswith("n-")


async def test_generation_counts_specs_and_status_is_apart(fake: FakeCluster) -> None:
    await fake.create(TRAIN_JOB, job())
    doc = await fake.patch(TRAIN_JOB, REF, MergePatch({"status": {"phase": "X"}}), subresource="status")
    assert (doc.generation, doc.status, doc.version) == (1, {"phase": "X"}, "2")
    doc = await fake.patch(TRAIN_JOB, REF, MergePatch({"metadata": {"labels": {"a": "b"}}}))
    assert (doc.generation, doc.version) == (1, "3")
    doc = await fake.patch(TRAIN_JOB, REF, MergePatch({"spec": {"workers": 2}, "status": {"phase": "Y"}}))
    assert (doc.generation, doc.status) == (2, {"phase": "X"})
    doc = await fake.patch(TRAIN_JOB, REF, MergePatch({"spec": {"workers": 9}, "status": None}), subresource="status")
    assert (doc.spec["workers"], doc.status, doc.generation) == (2, {}, 2)
    with pytest.raises(NotFound, match="subresource"):
        await fake.patch(CONFIG_MAP, REF, MergePatch({}), subresource="status")


async def test_a_patch_that_changes_nothing_makes_no_version(fake: FakeCluster) -> None:
    await fake.create(TRAIN_JOB, job())
    doc = await fake.patch(TRAIN_JOB, REF, MergePatch({"spec": {"command": ["train"]}}))
    assert doc.version == "1"


async def test_compare_and_swap(fake: FakeCluster) -> None:
    doc = await fake.create(TRAIN_JOB, job())
    await fake.patch(TRAIN_JOB, REF, MergePatch({"metadata": {"resourceVersion": doc.version}, "spec": {"workers": 2}}))
    for meta in ({"resourceVersion": doc.version}, {"uid": "another"}):
        with pytest.raises(Conflict):
            await fake.patch(TRAIN_JOB, REF, MergePatch({"metadata": meta, "spec": {"workers": 3}}))
    assert (await fake.get(TRAIN_JOB, REF)).spec["workers"] == 2


async def test_what_a_patch_cannot_change(fake: FakeCluster) -> None:
    doc = await fake.create(TRAIN_JOB, job())
    with pytest.raises(InvalidSpec, match=r"metadata\.name"):
        await fake.patch(TRAIN_JOB, REF, MergePatch({"metadata": {"name": "other"}}))
    meta = {"creationTimestamp": None, "deletionTimestamp": "2026-01-01T00:00:00Z", "generation": 9}
    assert (await fake.patch(TRAIN_JOB, REF, MergePatch({"metadata": meta}))).raw == doc.raw


async def test_json_patches_and_their_tests(fake: FakeCluster) -> None:
    await fake.create(TRAIN_JOB, job())
    path = "/spec/command/0"
    doc = await fake.patch(
        TRAIN_JOB, REF, JsonPatch([{"op": "test", "path": path, "value": "train"}, {"op": "remove", "path": path}])
    )
    assert doc.spec["command"] == []
    for operation in ({"op": "test", "path": path, "value": "x"}, {"op": "remove", "path": "/no/such"}, {"op": "?"}):
        with pytest.raises(InvalidSpec, match="JSON patch"):
            await fake.patch(TRAIN_JOB, REF, JsonPatch([operation]))


async def test_dry_runs_answer_and_change_nothing(fake: FakeCluster) -> None:
    doc = await fake.create(TRAIN_JOB, job(), dry_run=True)
    assert (doc.name, doc.version) == ("digits", "")
    with pytest.raises(NotFound):
        await fake.get(TRAIN_JOB, REF)
    await fake.create(TRAIN_JOB, job())
    doc = await fake.patch(TRAIN_JOB, REF, MergePatch({"spec": {"workers": 2}}), dry_run=True)
    assert doc.spec["workers"] == 2
    assert "workers" not in (await fake.get(TRAIN_JOB, REF)).spec


async def test_finalizers_hold_a_deletion(fake: FakeCluster) -> None:
    await fake.create(TRAIN_JOB, job(finalizers=["a/b"], ownerReferences=[{"uid": "1"}]))
    await fake.delete(TRAIN_JOB, REF)
    doc = await fake.get(TRAIN_JOB, REF)
    assert doc.is_deleting
    assert doc.generation == 2
    assert doc.owners == [{"uid": "1"}]
    version = doc.version
    await fake.delete(TRAIN_JOB, REF)
    assert (await fake.get(TRAIN_JOB, REF)).version == version
    with pytest.raises(InvalidSpec, match="no new finalizer"):
        await fake.patch(TRAIN_JOB, REF, MergePatch({"metadata": {"finalizers": ["a/b", "c/d"]}}))
    await fake.patch(TRAIN_JOB, REF, MergePatch({"metadata": {"finalizers": None}}))
    with pytest.raises(NotFound):
        await fake.get(TRAIN_JOB, REF)


async def test_preconditions_of_a_deletion(fake: FakeCluster) -> None:
    doc = await fake.create(TRAIN_JOB, job())
    for uid, version in (("another", ""), ("", "99")):
        with pytest.raises(Conflict):
            await fake.delete(TRAIN_JOB, REF, uid=uid, version=version)
    await fake.delete(TRAIN_JOB, REF, uid=doc.uid, version=doc.version)
    with pytest.raises(NotFound):
        await fake.delete(TRAIN_JOB, REF)


async def test_a_pod_on_a_node_waits_for_its_kubelet_and_no_other(fake: FakeCluster) -> None:
    pod = Ref("vision", "p")
    body: Json = {"metadata": {"name": "p", "namespace": "vision"}, "spec": {"terminationGracePeriodSeconds": 60}}
    doc = await fake.create(POD, body)
    assert doc.status == {"phase": "Pending"}
    await fake.delete(POD, pod)
    with pytest.raises(NotFound):
        await fake.get(POD, pod)
    await fake.create(POD, body)
    await fake.bind(pod, "own")
    with pytest.raises(Conflict, match="already assigned to node 'own'"):
        await fake.bind(pod, "cloud")
    await fake.evict(pod)
    doc = await fake.get(POD, pod)
    assert doc.meta["deletionGracePeriodSeconds"] == 60
    assert doc.meta["deletionTimestamp"] == "2026-01-01T00:01:00Z"
    await fake.delete(POD, pod, grace_s=5)
    await fake.delete(POD, pod, grace_s=300)
    assert (await fake.get(POD, pod)).meta["deletionGracePeriodSeconds"] == 5
    await fake.delete(POD, pod, grace_s=0)
    with pytest.raises(NotFound):
        await fake.get(POD, pod)


async def test_lists_are_paged_consistently_and_tokens_expire(fake: FakeCluster) -> None:
    fake.seed(TRAIN_JOB, *(job(f"j{number}") for number in range(5)))
    first = await fake.list(TRAIN_JOB, limit=2)
    await fake.delete(TRAIN_JOB, Ref("vision", "j4"))
    second = await fake.list(TRAIN_JOB, limit=2, resume=first.resume)
    third = await fake.list(TRAIN_JOB, limit=2, resume=second.resume)
    assert [doc.name for page in (first, second, third) for doc in page.items] == ["j0", "j1", "j2", "j3", "j4"]
    assert {page.version for page in (first, second, third)} == {"5"}
    assert third.resume == ""
    fake.expire_watches()
    with pytest.raises(Expired):
        await fake.list(TRAIN_JOB, limit=2, resume=first.resume)


async def test_selectors(fake: FakeCluster) -> None:
    fake.seed(
        TRAIN_JOB, job("a", labels={"x": "1"}), {**job("b"), "metadata": {"name": "b", "namespace": "other"}}, job("c")
    )

    async def names(where: Scope) -> list[str]:
        return [doc.name for doc in (await fake.list(TRAIN_JOB, where)).items]

    assert await names(Scope(labels="x=1")) == ["a"]
    assert await names(Scope(fields="metadata.name!=a")) == ["b", "c"]
    assert await names(Scope(namespace="vision")) == ["a", "c"]


async def collect(fake: FakeCluster, since: str, *, count: int, where: Scope | None = None) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    async with fake.watch(TRAIN_JOB, where or Scope(), since=since) as changes:
        async for change in changes:
            seen.append((change.type, change.doc.version))
            if len(seen) == count:
                break
    return seen


async def test_a_watch_replays_history_from_any_version(fake: FakeCluster) -> None:
    await fake.create(TRAIN_JOB, job())
    await fake.patch(TRAIN_JOB, REF, MergePatch({"spec": {"workers": 2}}))
    await fake.delete(TRAIN_JOB, REF)
    assert await collect(fake, "0", count=3) == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "3")]
    assert await collect(fake, "2", count=1) == [("DELETED", "3")]
    assert await collect(fake, "3", count=1) == [("BOOKMARK", "3")]
    fake.expire_watches()
    with pytest.raises(Expired):
        await collect(fake, "2", count=1)


async def test_faults_strike_once_before_or_after_the_effect(fake: FakeCluster) -> None:
    fake.fail_next("create", Unavailable("Before."))
    with pytest.raises(Unavailable):
        await fake.create(TRAIN_JOB, job())
    fake.fail_next("create", Unavailable("After."), after=True, kind=TRAIN_JOB)
    await fake.create(CONFIG_MAP, {"metadata": {"name": "c", "namespace": "vision"}})
    with pytest.raises(Unavailable):
        await fake.create(TRAIN_JOB, job())
    with pytest.raises(AlreadyExists):
        await fake.create(TRAIN_JOB, job())
    assert fake.count("create", TRAIN_JOB) == 3


async def test_a_watch_that_is_cut_says_so(fake: FakeCluster) -> None:
    async def cut() -> None:
        await anyio.sleep(1)
        fake.cut_watches()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cut)
        with pytest.raises(Unavailable, match="cut"):
            await collect(fake, "0", count=1)


async def test_scripted_pods(fake: FakeCluster) -> None:
    (pod,) = fake.seed(POD, {"metadata": {"name": "p", "namespace": "vision"}})
    fake.script_logs(pod.ref, [b"one\n", b"two\n"])
    async with fake.logs(pod.ref) as chunks:
        assert [chunk async for chunk in chunks] == [b"one\n", b"two\n"]

    async def echo(argv: Sequence[str], stdin: bytes) -> ExecResult:
        return ExecResult(3, " ".join(argv).encode() + stdin, b"to stderr")

    fake.script_exec(pod.ref, echo)
    assert await fake.exec(pod.ref, ["cat"], stdin=b"!") == ExecResult(3, b"cat!", b"to stderr")
    async with fake.attach_exec(pod.ref, ["cat"]) as running:
        await running.stdin.send(b"!")
        assert await running.wait() == 3
        assert await running.stdout.receive() == b"cat!"
        assert await running.stderr.receive() == b"to stderr"
        with pytest.raises(anyio.EndOfStream):
            await running.stdout.receive()
    with pytest.raises(NotFound):
        await fake.exec(pod.ref, ["cat"], container="other")


async def test_scripted_requests(fake: FakeCluster) -> None:
    fake.script_request("GET", "/apis/x", {"a": 1})
    fake.script_request("POST", "/apis/x", lambda query, body: (query, body))
    assert await fake.request("GET", "/apis/x") == {"a": 1}
    assert await fake.request("POST", "/apis/x", query={"q": "1"}, body=b"2") == ({"q": "1"}, b"2")
    with pytest.raises(NotFound):
        await fake.request("PUT", "/apis/x")


async def test_seeds_are_kept_as_written(fake: FakeCluster) -> None:
    body = {**job(deletionTimestamp="2026-01-01T00:00:00Z", uid="u"), "status": {"phase": "Running"}}
    (doc,) = fake.seed(TRAIN_JOB, body)
    found: Doc[Any] = await fake.get(TRAIN_JOB, REF)
    assert found.raw == doc.raw
    assert (found.uid, found.is_deleting, found.status) == ("u", True, {"phase": "Running"})
