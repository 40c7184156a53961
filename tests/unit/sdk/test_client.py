"""AsyncClient over the fake cluster: objects, waiting, jobs and computed reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import ExecResult, MergePatch
from headrace.errors import AlreadyExists, InvalidSpec, NotFound, Unavailable
from headrace.sdk import AsyncClient
from headrace.sdk.client import READS
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import CONFIG_MAP, PERSISTENT_VOLUME_CLAIM, POD, POOL, TRAIN_JOB
from headrace.spec.names import RUNTIME_PROFILE_LABEL

from .conftest import RUNNING, pod, set_phase

pytestmark = pytest.mark.anyio


def config(**data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


async def test_apply_creates_then_changes_then_finds_nothing_to_do(client: AsyncClient, fake: FakeCluster) -> None:
    outcome, doc = await client.apply(config(a="1"))
    assert (outcome, doc.namespace) == ("created", "default")
    assert (await client.apply(config(a="1")))[0] == "unchanged"
    outcome, doc = await client.apply(config(a="2"))
    assert (outcome, doc.raw["data"]) == ("configured", {"a": "2"})
    assert fake.count("patch") == 1


async def test_apply_goes_to_the_namespace_of_the_object(client: AsyncClient) -> None:
    elsewhere = config() | {"metadata": {"name": "c", "namespace": "vision"}}
    assert (await client.apply(elsewhere))[1].namespace == "vision"
    assert (await client.get(CONFIG_MAP, "c", namespace="vision")).name == "c"
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAP, "c")


async def test_apply_of_a_cluster_scoped_kind_has_no_namespace(client: AsyncClient) -> None:
    pool = {"apiVersion": "headrace.io/v1alpha1", "kind": "Pool", "metadata": {"name": "p"}, "spec": {"kind": "own"}}
    assert (await client.apply(pool))[1].namespace == ""
    assert [doc.name for doc in await client.list(POOL)] == ["p"]


async def test_apply_meets_somebody_who_was_quicker(client: AsyncClient, fake: FakeCluster) -> None:
    fake.fail_next("get", NotFound("Not yet."))
    fake.seed(CONFIG_MAP, config(a="0") | {"metadata": {"name": "c", "namespace": "default"}})
    outcome, doc = await client.apply(config(a="1"))
    assert (outcome, doc.raw["data"]) == ("configured", {"a": "1"})


async def test_a_secret_applied_again_is_unchanged_although_its_string_data_is_gone(client: AsyncClient) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}}
    assert (await client.apply(secret))[1].raw["data"] == {"k": "dg=="}
    assert (await client.apply(secret))[0] == "unchanged"


async def test_apply_dry_run_leaves_no_trace(client: AsyncClient) -> None:
    assert (await client.apply(config(), dry_run=True))[0] == "created"
    assert await client.list(CONFIG_MAP) == []


@pytest.mark.parametrize("meta", [None, {}, {"generateName": "c-"}])
async def test_apply_wants_a_name(client: AsyncClient, meta: Json | None) -> None:
    with pytest.raises(InvalidSpec, match=r"metadata\.name is missing"):
        await client.apply({**config(), "metadata": meta})


async def test_list_goes_over_all_chunks_and_namespaces(client: AsyncClient, fake: FakeCluster) -> None:
    names = [{"metadata": {"name": f"c{i:04}", "namespace": "a" if i % 2 else "b"}} for i in range(1100)]
    fake.seed(CONFIG_MAP, *names)
    assert len(await client.list(CONFIG_MAP, namespace="")) == 1100
    assert len(await client.list(CONFIG_MAP, namespace="a")) == 550
    assert await client.list(CONFIG_MAP) == []


async def test_a_cluster_without_our_kinds_is_told_so(client: AsyncClient, fake: FakeCluster) -> None:
    fake.fail_next("list", NotFound("the server could not find the requested resource."))
    with pytest.raises(NotFound, match=r"knows no trainjobs\.headrace\.io.*Install"):
        await client.list(TRAIN_JOB)


async def test_delete_waits_until_finalizers_are_done(client: AsyncClient, fake: FakeCluster) -> None:
    kept = {"metadata": {"name": "c", "namespace": "default", "finalizers": ["x/y"]}}
    fake.seed(CONFIG_MAP, kept)

    async def finish() -> None:
        await anyio.sleep(10)
        await fake.patch(CONFIG_MAP, Ref("default", "c"), MergePatch({"metadata": {"finalizers": None}}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(finish)
        await client.delete(CONFIG_MAP, "c", wait_s=60)
    assert await client.list(CONFIG_MAP) == []


async def test_delete_that_takes_too_long_says_what_it_saw(client: AsyncClient, fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, {"metadata": {"name": "c", "namespace": "default", "finalizers": ["x/y"]}})
    with pytest.raises(Unavailable, match=r"within 60 s"):
        await client.delete(CONFIG_MAP, "c", wait_s=60)


async def test_delete_is_done_when_another_of_that_name_is_there(client: AsyncClient, fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, {"metadata": {"name": "c", "namespace": "default", "finalizers": ["x/y"]}})

    async def replace() -> None:
        await anyio.sleep(1)
        fake.seed(CONFIG_MAP, {"metadata": {"name": "c", "namespace": "default"}})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replace)
        await client.delete(CONFIG_MAP, "c", wait_s=60)


async def test_delete_of_nothing(client: AsyncClient) -> None:
    with pytest.raises(NotFound):
        await client.delete(CONFIG_MAP, "c", wait_s=1)


async def test_labels_are_set_and_removed(client: AsyncClient, fake: FakeCluster) -> None:
    fake.seed(PERSISTENT_VOLUME_CLAIM, {"metadata": {"name": "d", "namespace": "default", "labels": {"old": "1"}}})
    await client.connect_dataset("d", "juicefs")
    doc = await client.set_metadata(PERSISTENT_VOLUME_CLAIM, "d", labels={"old": None}, annotations={"a": "b"})
    assert doc.labels == {RUNTIME_PROFILE_LABEL: "juicefs"}
    assert doc.annotations == {"a": "b"}


# -- waiting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut_watches", "expire_watches", "silence_watches"])
async def test_waiting_outlives_a_broken_watch(
    client: AsyncClient, fake: FakeCluster, job: Doc[Any], fault: str
) -> None:
    async def life() -> None:
        await anyio.sleep(5)
        getattr(fake, fault)()
        await set_phase(fake, "Succeeded")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(life)
        seen = await client.wait(
            TRAIN_JOB, "digits", lambda d: d is not None and d.status.get("phase") == "Succeeded", timeout_s=600
        )
    assert seen is not None


async def test_waiting_outlives_a_server_that_restarts(client: AsyncClient, fake: FakeCluster, job: Doc[Any]) -> None:
    await set_phase(fake, "Succeeded")
    fake.fail_next("list", Unavailable("It restarts."), times=10)
    seen = await client.wait(TRAIN_JOB, "digits", lambda d: d is not None, timeout_s=600)
    assert seen is not None


async def test_a_server_that_stays_away_is_reported_as_itself(client: AsyncClient, fake: FakeCluster) -> None:
    fake.fail_next("list", Unavailable("It is down."), times=1000)
    with pytest.raises(Unavailable, match="It is down"):
        await client.wait(TRAIN_JOB, "digits", lambda d: d is not None, timeout_s=600)


async def test_waiting_for_what_never_comes_ends_with_the_last_condition(
    client: AsyncClient, fake: FakeCluster
) -> None:
    with pytest.raises(Unavailable, match="it does not exist"):
        await client.wait(TRAIN_JOB, "digits", lambda d: d is not None, timeout_s=5)
    conditions = [{"type": "Admitted", "status": "False", "message": "lacks cpu 2"}]
    body = {"metadata": {"name": "digits", "namespace": "default"}, "spec": {}, "status": {"conditions": conditions}}
    fake.seed(TRAIN_JOB, body)
    with pytest.raises(Unavailable, match="last: lacks cpu 2"):
        await client.wait(TRAIN_JOB, "digits", lambda d: d is None, timeout_s=5)


async def test_changes_tell_of_absence_creation_and_deletion(client: AsyncClient, fake: FakeCluster) -> None:
    seen: list[str] = []

    async def watch() -> None:
        async with client.changes(TRAIN_JOB, Ref("default", "digits")) as states:
            async for state in states:
                seen.append("absent" if state is None else str(state.status.get("phase", "new")))
                if seen[-1] == "absent" and len(seen) > 1:
                    return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.sleep(1)
        fake.seed(TRAIN_JOB, {"metadata": {"name": "other", "namespace": "default"}})
        fake.seed(TRAIN_JOB, {"metadata": {"name": "digits", "namespace": "default"}, "status": {}})
        await set_phase(fake, "Running")
        await fake.delete(TRAIN_JOB, Ref("default", "digits"))
    assert seen == ["absent", "new", "Running", "absent"]


# -- jobs --------------------------------------------------------------------------------------------------------------


async def test_submit_makes_up_a_name(client: AsyncClient) -> None:
    doc = await client.submit({"spec": {"command": ["true"]}})
    assert doc.name.startswith("job-")
    doc = await client.submit({"metadata": {"generateName": "digits-"}, "spec": {"command": ["true"]}})
    assert doc.name.startswith("digits-")


async def test_submit_twice_under_one_name(client: AsyncClient) -> None:
    job = {"metadata": {"name": "digits"}, "spec": {"command": ["true"]}}
    await client.submit(job)
    with pytest.raises(AlreadyExists):
        await client.submit(job)


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        ({"kind": "Pod", "apiVersion": "v1"}, "A Pod of v1 cannot be run"),
        ({"kind": "TrainJob", "apiVersion": "headrace.io/v2"}, "cannot be run"),
        ({"metadata": []}, "metadata must be a mapping"),
        ({"spec": "train"}, "spec must be a mapping"),
    ],
)
async def test_what_is_no_job(client: AsyncClient, job: Json, sentence: str) -> None:
    with pytest.raises(InvalidSpec, match=sentence):
        await client.submit(job)


async def test_code_is_packed_uploaded_once_and_named_by_its_digest(
    client: AsyncClient, fake: FakeCluster, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    stored: dict[str, bytes] = {}

    class Store:
        """Answers for every digest."""

        def __contains__(self, key: tuple[str, str]) -> bool:
            return "/code/" in key[1]

        def __getitem__(self, key: tuple[str, str]) -> Any:
            method, path = key
            if method == "GET":
                return {"known": path.removesuffix("/known") in stored}
            return lambda _query, body: stored.update({path: body}) or {}

    fake._answers = Store()  # type: ignore[assignment]
    job = {"spec": {"command": ["python", "train.py"], "code": {"directory": "."}}}
    first = await client.submit(job, base=tmp_path)
    again = await client.submit(job, base=tmp_path)
    assert first.spec["code"] == again.spec["code"]
    assert first.spec["code"]["archive"].startswith("sha256:")
    assert len(stored) == 1
    assert fake.count("request") == 3
    dry = await client.submit(job, base=tmp_path, dry_run=True)
    assert dry.spec["code"] == first.spec["code"]
    assert fake.count("request") == 3


async def test_apply_packs_code_too_and_does_it_again_to_no_effect(
    client: AsyncClient, fake: FakeCluster, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    job = {
        "apiVersion": "headrace.io/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "digits"},
        "spec": {"command": ["python", "train.py"], "code": {"directory": str(tmp_path)}},
    }
    fake.script_request("GET", READS, {})
    outcome, doc = await client.apply(job, dry_run=True)
    assert outcome == "created"
    path = f"{READS}/namespaces/default/code/{doc.spec['code']['archive'].removeprefix('sha256:')}"
    fake.script_request("GET", f"{path}/known", {"known": True})
    assert (await client.apply(job))[0] == "created"
    assert (await client.apply(job))[0] == "unchanged"


async def test_a_quote_needs_no_packing(client: AsyncClient, fake: FakeCluster) -> None:
    fake.script_request("POST", f"{READS}/namespaces/default/quote", lambda _query, body: body)
    sent = await client.quote({"spec": {"command": ["x"], "code": {"directory": "/nowhere"}}})
    assert set(sent["spec"]["code"]) == {"archive"}


async def test_stopping_leaves_a_job_alone_that_has_ended(
    client: AsyncClient, fake: FakeCluster, job: Doc[Any]
) -> None:
    assert (await client.stop("digits")).spec["suspend"] is True
    await set_phase(fake, "Failed")
    assert (await client.stop("digits")).status["phase"] == "Failed"
    assert fake.count("patch") == 2


async def test_a_command_runs_in_the_first_worker_or_the_one_named(
    client: AsyncClient, fake: FakeCluster, job: Doc[Any]
) -> None:
    fake.seed(POD, pod(0, state=RUNNING), pod(1, state=RUNNING), pod(2))
    for index in (0, 1):

        async def answer(argv: Any, stdin: bytes, index: int = index) -> ExecResult:
            return ExecResult(index, " ".join(argv).encode(), stdin)

        fake.script_exec(Ref("default", f"digits-1-worker-{index}"), answer, container="main")
    assert await client.exec("digits", ["ls", "/"]) == ExecResult(0, b"ls /", b"")
    assert await client.exec("digits", ["cat"], worker="worker-1", stdin=b"hi") == ExecResult(1, b"cat", b"hi")
    with pytest.raises(NotFound, match=r"no running worker 'worker-2'.*worker-0, worker-1"):
        await client.exec("digits", ["ls"], worker="worker-2")
    with pytest.raises(NotFound):
        await client.exec("nothing", ["ls"])


async def test_computed_reads_say_whether_job_or_headrace_is_missing(client: AsyncClient, fake: FakeCluster) -> None:
    with pytest.raises(Unavailable, match="does not answer Headrace's computed reads"):
        await client.why("digits")
    fake.script_request("GET", READS, {"kind": "APIResourceList"})
    with pytest.raises(NotFound):
        await client.why("digits")


async def test_usage_passes_filters_and_leaves_out_empty_ones(client: AsyncClient, fake: FakeCluster) -> None:
    fake.script_request("GET", f"{READS}/usage", lambda query, _body: query)
    assert await client.usage(namespace="", job="digits", by="span") == {"job": "digits", "by": "span"}
