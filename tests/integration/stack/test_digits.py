"""The main job on real storage: a labelled claim is read on own through CSI and in the cloud through a sidecar.

The user's objects never change, nobody has a privilege, the bill can be derived again, and nothing is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.stack import objects
from tests.integration.stack.stack import Stack, eventually, mount, processes_with, program, world_mounts
from tests.storage import READ, Bucket, JuiceFsVolume, digest_of, juicefs_volume, s3_bucket, small_files

from headrace.data.wrapper.objects import dataset_ref
from headrace.spec.kind import Doc, Kind, Ref
from headrace.spec.kinds import (
    CONFIG_MAP,
    DATASET,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    THIN_RUNTIME,
    TRAIN_JOB,
)

pytestmark = [pytest.mark.fuse, pytest.mark.usefixtures("fuse")]

DATA, OUT = Ref("default", "data"), Ref("default", "out")
_SAY_PRIVILEGES = 'print(*[line.strip() for line in open("/proc/self/status") if line.startswith("Cap")], flush=True)\n'
_WRITE = 'open(sys.argv[2] + "/model", "w").write(digest.hexdigest())\n'
_HOLD = 'import os, time\nwhile not os.path.exists(sys.argv[2] + "/go"): time.sleep(0.05)\n'


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JuiceFsVolume]:
    with juicefs_volume(tmp_path_factory.mktemp("jfs")) as serving:
        yield serving


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with s3_bucket(tmp_path_factory.mktemp("s3")) as serving:
        serving.put(small_files())
        yield serving


@pytest.fixture(scope="module", autouse=True)
def down_leaves_no_client(volume: JuiceFsVolume, bucket: Bucket) -> Iterator[None]:
    """Set up before the installation, and so looked at after its `down`."""
    yield
    assert processes_with(volume.metaurl) + processes_with(f"s3://{bucket.name}") == []


@pytest.fixture(scope="module")
def shared(stack: Stack, volume: JuiceFsVolume) -> Stack:
    """A read-only claim and a writable one, labelled and verified in both pools."""
    stack.apply(objects.profile("juicefs", "juicefs"))
    stack.apply(*objects.juicefs_claim(DATA, volume, subdir="/data"))
    stack.apply(*objects.juicefs_claim(OUT, volume, "ReadWriteMany", subdir="/out"))
    for claim in (DATA, OUT):
        stack.share(claim, "juicefs")
    for claim in (DATA, OUT):
        dataset = stack.verified(claim)
        assert dataset.status["phase"] == "Bound"
        assert {pool["pool"]: pool["verified"] for pool in dataset.status["pools"]} == {"own": "True", "cloud": "True"}
    return stack


@pytest.fixture(scope="module")
def jobs(shared: Stack, volume: JuiceFsVolume) -> dict[str, Doc[Any]]:
    """The same job in each pool, as it was when it had been submitted; both have succeeded."""
    mounts = [mount(DATA.name, "/data"), mount(OUT.name, "/out", read_only=False)]
    submitted = {}
    for pool in ("cloud", "own"):
        source = _SAY_PRIVILEGES + READ + (_WRITE if pool == "cloud" else 'print(open("/out/model").read())')
        submitted[pool] = shared.submit(pool, program(source, "/data", "/out"), pools=[pool], mounts=mounts)
        shared.ended(pool)
    return submitted


def pods_of(stack: Stack, job: str) -> list[Doc[Any]]:
    return stack.client.list(POD, labels=f"headrace.io/job={job}")


def test_the_same_files_are_read_in_both_pools(shared: Stack, jobs: dict[str, Doc[Any]], volume: JuiceFsVolume) -> None:
    for pool in jobs:
        assert volume.said in shared.log(pool)
    (own,), (cloud,) = pods_of(shared, "own"), pods_of(shared, "cloud")
    names = {pod.name: [c["name"] for c in pod.spec.get("initContainers") or []] for pod in (own, cloud)}
    assert names[own.name] == [], "own reads through its CSI driver"
    assert names[cloud.name] == ["fluid-fuse-0", "fluid-fuse-1"]
    assert (own.spec["nodeName"], cloud.spec["nodeName"]) == ("own", "cloud")


def test_what_the_cloud_wrote_is_seen_on_own(shared: Stack, jobs: dict[str, Doc[Any]], volume: JuiceFsVolume) -> None:
    assert volume.said.split()[-1] in shared.log("own")


def test_nobody_has_a_privilege(shared: Stack, volume: JuiceFsVolume) -> None:
    mounts = [mount(DATA.name, "/data"), mount(OUT.name, "/out", read_only=False)]
    source = _SAY_PRIVILEGES + READ + _HOLD
    shared.submit("held", program(source, "/data", "/out"), pools=["cloud"], mounts=mounts)
    shared.until(TRAIN_JOB, Ref("default", "held"), lambda job: job.status.get("phase") == "Running")
    clients = processes_with(volume.metaurl)
    assert len(clients) >= 2
    for client in clients:
        assert privileges(client.pid) == {"CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0, "CapInh": 0}, client
    go = program("open('/out/go', 'w')")
    shared.submit("go", go, pools=["own"], mounts=[mount(OUT.name, "/out", read_only=False)])
    shared.ended("held")
    said = next(line for line in shared.log("held") if "CapEff" in line)
    assert "CapEff:\t0000000000000000" in said


def privileges(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: int(value, 16) for key, _, value in (line.partition(":") for line in lines) if key.startswith("Cap")}


def test_what_people_wrote_has_not_changed(shared: Stack, jobs: dict[str, Doc[Any]], volume: JuiceFsVolume) -> None:
    written = [
        *objects.juicefs_claim(DATA, volume, subdir="/data"),
        *objects.juicefs_claim(OUT, volume, "ReadWriteMany", subdir="/out"),
    ]
    kinds: dict[str, Kind[Any]] = {kind.name: kind for kind in (PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM)}
    for body in written:
        if body["kind"] not in kinds:
            continue
        found = shared.client.get(kinds[body["kind"]], body["metadata"]["name"])
        assert changed_lines(body["spec"], found.spec) == []
        assert set(found.spec) - set(body["spec"]) <= {"volumeMode"}, "only what Kubernetes defaults"
    for pool, job in jobs.items():
        found = shared.client.get(TRAIN_JOB, pool)
        assert found.spec == job.spec
        assert found.generation == job.generation == 1


def changed_lines(written: Any, found: Any, path: str = "spec") -> list[str]:
    """Return the paths at which what is there is not what was written; what was added beside it does not count."""
    if isinstance(written, dict) and isinstance(found, dict):
        return [line for key in written for line in changed_lines(written[key], found.get(key), f"{path}.{key}")]
    return [] if written == found else [path]


def test_the_bill_is_derived_again(shared: Stack, jobs: dict[str, Doc[Any]]) -> None:
    rows = shared.client.usage(by="span", job="cloud", namespace="default")["rows"]
    assert [row["pod"] for row in rows] == [pod.name for pod in pods_of(shared, "cloud")]
    assert shared.client.replay()["equal"] is True


def test_an_s3_bucket_is_read_in_both_pools(stack: Stack, bucket: Bucket) -> None:
    claim = Ref("default", "photos")
    stack.apply(objects.profile("rclone", "rclone"), *objects.s3_claim(claim, bucket))
    stack.share(claim, "rclone")
    stack.verified(claim)
    for pool in ("own", "cloud"):
        stack.submit(f"s3-{pool}", program(READ, "/data"), pools=[pool], mounts=[mount(claim.name, "/data")])
    for pool in ("own", "cloud"):
        stack.ended(f"s3-{pool}")
        assert digest_of(small_files()) in stack.log(f"s3-{pool}")


def test_nothing_is_left_of_a_claim_that_is_shared_no_more(
    stack: Stack, shared: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    namespace = stack.namespace("gone")
    claim = Ref(namespace, "data")
    before = set(world_mounts(stack.installation, "fuse"))
    with juicefs_volume(tmp_path_factory.mktemp("gone"), {"only": b"content"}) as own_storage:
        stack.apply(*objects.juicefs_claim(claim, own_storage, subdir="/data"))
        stack.share(claim, "juicefs")
        stack.verified(claim)
        for pool in ("own", "cloud"):
            mounts = [mount(claim.name, "/data")]
            stack.submit(pool, program(READ, "/data"), namespace=namespace, pools=[pool], mounts=mounts)
        for pool in ("own", "cloud"):
            stack.ended(pool, namespace=namespace)
            stack.client.delete(TRAIN_JOB, pool, namespace=namespace, wait_s=30)
        stack.share(claim, None)
        for kind in (DATASET, THIN_RUNTIME):
            stack.gone(kind, dataset_ref(claim))
        eventually(lambda: not stack.client.list(POD, namespace=namespace), "its pods are gone")
        eventually(
            lambda: len(stack.client.list(CONFIG_MAP, namespace=namespace)) == 1, "only Kubernetes' own is there"
        )
        eventually(lambda: not processes_with(own_storage.metaurl), "its storage clients have ended")
        eventually(lambda: set(world_mounts(stack.installation, "fuse")) <= before, "its mounts are gone")
    stack.client.delete(PERSISTENT_VOLUME_CLAIM, claim.name, namespace=namespace, wait_s=30)
