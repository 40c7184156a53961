"""What is wrong is said once, in a sentence with what, why and what to try: on the object, its events and the CLI.

All that takes its time to go wrong is begun together, once; each test waits for its own.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.installation import Installation
from tests.integration.stack import objects
from tests.integration.stack.stack import Stack, eventually, mount, program
from tests.storage import READ, Bucket, digest_of, free_ports, s3_bucket

from headrace.data.wrapper.objects import dataset_ref
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Kind, Ref
from headrace.spec.kinds import DATASET, PERSISTENT_VOLUME_CLAIM, POD, TRAIN_JOB

FILES = {"a": b"content"}
CURE = "Mostly the storage's address or Secret is wrong."
NEVER_BINDS = Ref("default", "never-binds")
UNLABELLED = Ref("default", "unlabelled")
NO_PROFILE = Ref("default", "no-profile")
WRONG_SECRET = Ref("default", "wrong-secret")
UNREACHABLE = Ref("default", "unreachable")
EXITS = Ref("default", "exits")
HANGS = Ref("default", "hangs")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with s3_bucket(tmp_path_factory.mktemp("s3")) as serving:
        serving.put(FILES)
        yield serving


@pytest.fixture(scope="module")
def wrong(stack: Stack, bucket: Bucket) -> Stack:
    """Everything that is wrong, applied."""
    (closed_port,) = free_ports(1)
    stack.apply(
        objects.profile("rclone", "rclone"),
        objects.command_profile("exits", "starfs", ["sh", "-c", "echo starfs: token is missing >&2; exit 3"]),
        objects.command_profile("hangs", "starfs", ["sh", "-c", "echo connecting to starfs; exec sleep 600"]),
        *objects.s3_claim(HANGS, bucket, profile_name="hangs"),
        *objects.s3_claim(EXITS, bucket, profile_name="exits"),
        *objects.s3_claim(WRONG_SECRET, bucket, secret_key="wrong"),
        *objects.s3_claim(UNREACHABLE, bucket, endpoint=f"http://127.0.0.1:{closed_port}"),
        *objects.s3_claim(NO_PROFILE, bucket),
        *objects.s3_claim(UNLABELLED, bucket),
        objects.claim(NEVER_BINDS, "ReadWriteMany", "", storage_class="nowhere"),
    )
    labels = {HANGS: "hangs", EXITS: "exits", NO_PROFILE: "rclon"}
    for claim in (HANGS, EXITS, WRONG_SECRET, UNREACHABLE, NO_PROFILE, NEVER_BINDS):
        stack.share(claim, labels.get(claim, "rclone"))
    return stack


def job(stack: Stack, name: str, claim: Ref, pool: str) -> Ref:
    stack.submit(name, program(READ, "/data"), pools=[pool], mounts=[mount(claim.name, "/data")])
    return Ref("default", name)


def told(stack: Stack, kind: Kind[Any], ref: Ref, *words: str) -> None:
    """Check that the words are in an event about the object, and in what both commands describe."""
    doc = stack.client.get(kind, ref.name, namespace=ref.namespace)

    def unsaid() -> list[str]:
        events = " ".join(stack.events(doc))
        return [word for word in words if word not in events]

    eventually(lambda: not unsaid(), f"events about {ref} say {words}")
    ours = _flat(stack.headrace("describe", kind.singular, ref.name).stdout)
    theirs = _flat(stack.kubectl("describe", kind.singular, ref.name).stdout)
    for word in words:
        assert word in ours
        assert word in theirs


def why(stack: Stack, job: Ref, *words: str) -> None:
    said = _flat(stack.headrace("why", job.name).stdout)
    for word in words:
        assert word in said


def _flat(text: str) -> str:
    return " ".join(text.split())


# -- what nobody has to mount for --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("apply", "-f"), ("run", "-f"), ("run", "--dry-run", "-f")])
def test_a_misspelt_field_is_refused_with_the_nearest_name(
    stack: Stack, tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = stack.headrace(*command, str(misspelt(tmp_path)), check=False)
    assert done.returncode == 65
    assert "spec.workres: is no field that exists here; did you mean 'workers'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_kubectl_is_told_the_nearest_name_too(stack: Stack, tmp_path: Path) -> None:
    done = stack.kubectl("apply", "-f", str(misspelt(tmp_path)), check=False)
    assert done.returncode == 1
    assert 'The TrainJob "misspelt" is invalid' in done.stderr
    assert "did you mean 'workers'?" in done.stderr


def misspelt(directory: Path) -> Path:
    file = directory / "job.json"
    body = {
        "apiVersion": "headrace.io/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "misspelt"},
        "spec": {"command": ["true"], "workres": 2},
    }
    file.write_text(json.dumps(body))
    return file


def test_a_job_larger_than_any_pool_is_told_the_numbers(stack: Stack) -> None:
    large = Ref("default", "large")
    stack.submit(large.name, ["true"], resources={"cpu": "100", "memory": "1Gi"})
    numbers = "own: needs cpu 100, the pool holds cpu 2; cloud: needs cpu 100, the pool holds cpu 4"
    stack.says(TRAIN_JOB, large, "Admitted", "False", "LargerThanAnyPool", numbers)  # nodes may be counted later
    told(stack, TRAIN_JOB, large, "LargerThanAnyPool", numbers)
    why(stack, large, numbers, "Ask for fewer workers or smaller ones.")


def test_a_job_that_asks_for_what_is_not_there_yet_is_held_and_costs_nothing(stack: Stack) -> None:
    held = Ref("default", "held")
    stack.submit(held.name, ["true"], mounts=[{"source": "s3://bucket/train", "path": "/data"}])
    sentence = "spec.mounts[0].source is not mounted yet; make a Dataset and a ThinRuntime for it"
    said = stack.says(TRAIN_JOB, held, "Admitted", "False", "Unsupported")
    assert said["message"].startswith(sentence)
    told(stack, TRAIN_JOB, held, "Unsupported", sentence)
    why(stack, held, sentence)
    assert not stack.client.list(POD, labels=f"headrace.io/job={held.name}")


def test_a_second_up_finds_the_first(stack: Stack) -> None:
    before = stack.installation.pid("control")
    done = stack.headrace("up")
    assert "It was running already" in done.stdout
    assert stack.installation.pid("control") == before
    (port,) = free_ports(1)
    other = stack.headrace("up", "--port", str(port), check=False)
    assert other.returncode == 73
    assert "Headrace runs already, on port" in other.stderr
    assert "headrace down" in other.stderr


def test_a_port_in_use(installation: Installation) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = installation.run("up", "--port", str(port), check=False)
    assert done.returncode == 73
    assert f"Port {port} cannot be used: Address already in use." in done.stderr
    assert "Choose another, or none: headrace up" in done.stderr
    assert installation.processes() == []


# -- claims --------------------------------------------------------------------------------------------------------------


def test_a_claim_that_never_binds(wrong: Stack) -> None:
    said = wrong.says(PERSISTENT_VOLUME_CLAIM, NEVER_BINDS, "headrace.io/DatasetReady", "Unknown", "ClaimPending")
    assert "`kubectl describe pvc never-binds` says what it waits for" in said["message"]
    told(wrong, PERSISTENT_VOLUME_CLAIM, NEVER_BINDS, 'storageclass.storage.k8s.io "nowhere" not found')
    in_cloud, at_home = job(wrong, "unbound-cloud", NEVER_BINDS, "cloud"), job(wrong, "unbound-own", NEVER_BINDS, "own")
    wrong.says(TRAIN_JOB, in_cloud, "Admitted", "False", "DataNotReady")
    told(wrong, TRAIN_JOB, in_cloud, "Claim never-binds is not bound yet")
    why(wrong, in_cloud, "Claim never-binds is not bound yet")
    said = wrong.says(TRAIN_JOB, at_home, "Running", "False", "Unschedulable")
    assert "PersistentVolumeClaims" in said["message"]
    told(wrong, TRAIN_JOB, at_home, said["message"])
    why(wrong, at_home, "not started", said["message"])


def test_a_claim_without_the_label_stays_at_home(wrong: Stack) -> None:
    sentence = "Claim default/unlabelled has no label fluid.io/runtime-profile"
    cure = "kubectl label pvc unlabelled -n default fluid.io/runtime-profile=PROFILE"
    in_cloud, at_home = job(wrong, "shy-cloud", UNLABELLED, "cloud"), job(wrong, "shy-own", UNLABELLED, "own")
    wrong.says(TRAIN_JOB, in_cloud, "Admitted", "False", "ClaimNotShareable")
    told(wrong, TRAIN_JOB, in_cloud, "ClaimNotShareable", sentence, cure)
    why(wrong, in_cloud, "ClaimNotShareable", sentence, cure)
    large = Ref("default", "shy-large")
    wrong.submit(
        large.name,
        ["true"],
        resources={"cpu": "3", "memory": "128Mi"},
        mounts=[mount(UNLABELLED.name, "/data")],
    )
    why(wrong, large, "ClaimNotShareable", "own: needs cpu 3, the pool holds cpu 2")
    wrong.ended(at_home.name)
    assert digest_of(FILES) in wrong.log(at_home.name)


def test_a_profile_that_does_not_exist_heals_when_it_is_made(wrong: Stack) -> None:
    said = wrong.says(PERSISTENT_VOLUME_CLAIM, NO_PROFILE, "headrace.io/DatasetReady", "False", "ProfileNotFound")
    assert said["message"].startswith("There is no profile rclon; found: rclone, ")
    told(wrong, PERSISTENT_VOLUME_CLAIM, NO_PROFILE, "There is no profile rclon; found: rclone, ")
    events = wrong.events(wrong.client.get(PERSISTENT_VOLUME_CLAIM, NO_PROFILE.name))
    assert not [event for event in events if event.startswith("RuntimeNotFound")]
    waiting = job(wrong, "profile", NO_PROFILE, "cloud")
    wrong.says(TRAIN_JOB, waiting, "Admitted", "False", "DataNotReady")
    told(wrong, TRAIN_JOB, waiting, "There is no profile rclon;")
    why(wrong, waiting, "There is no profile rclon;")
    wrong.apply(objects.profile("rclon", "rclone"))
    wrong.says(PERSISTENT_VOLUME_CLAIM, NO_PROFILE, "headrace.io/DatasetReady", "True")
    wrong.ended(waiting.name)
    assert digest_of(FILES) in wrong.log(waiting.name)


# -- storage clients -----------------------------------------------------------------------------------------------------


def unverified(stack: Stack, claim: Ref, words: str, *, pools: tuple[str, ...] = ("own", "cloud")) -> Doc[Any]:
    """Wait until the mount was tried in the pools without success; check who says it."""

    def decided(dataset: Doc[Any]) -> bool:
        failed = {entry["pool"] for entry in dataset.status.get("pools") or [] if entry["verified"] == "False"}
        return failed >= set(pools)

    dataset = stack.until(DATASET, dataset_ref(claim), decided, within_s=140)
    said = find_condition(dataset, "MountVerified") or {}
    assert said["status"] == "False"
    for entry in dataset.status["pools"]:
        if entry["pool"] in pools:
            assert words in entry["message"]
            assert CURE in entry["message"]
            assert f"{entry['pool']}: {entry['message']}" in said["message"]
    told(stack, DATASET, dataset.ref, words, CURE)
    assert words in _flat(stack.headrace("datasets", "list").stdout)
    return dataset


@pytest.mark.usefixtures("fuse")
def test_a_client_that_exits_at_once(wrong: Stack) -> None:
    in_cloud, at_home = job(wrong, "exits-cloud", EXITS, "cloud"), job(wrong, "exits-own", EXITS, "own")
    unverified(wrong, EXITS, "starfs: token is missing")
    wrong.says(TRAIN_JOB, in_cloud, "Admitted", "False", "DataNotReady")
    why(wrong, in_cloud, "Claim default/exits could not be mounted in pool cloud", "starfs: token is missing", CURE)
    said = wrong.says(TRAIN_JOB, at_home, "Running", "False", "NotPrepared")
    assert "starfs: token is missing" in said["message"]
    told(wrong, TRAIN_JOB, at_home, "starfs: token is missing")
    why(wrong, at_home, "not started", "starfs: token is missing")


@pytest.mark.usefixtures("fuse")
def test_a_client_that_hangs(wrong: Stack) -> None:
    unverified(wrong, HANGS, "connecting to starfs")


@pytest.mark.usefixtures("fuse")
def test_a_server_that_does_not_answer(wrong: Stack) -> None:
    unverified(wrong, UNREACHABLE, "does not answer: Connection refused")


@pytest.mark.usefixtures("fuse")
def test_a_wrong_secret_heals_when_it_is_mended(wrong: Stack, bucket: Bucket) -> None:
    waiting = job(wrong, "secret", WRONG_SECRET, "cloud")
    unverified(wrong, WRONG_SECRET, "SignatureDoesNotMatch", pools=("own",))
    why(wrong, waiting, "Claim default/wrong-secret")
    wrong.apply(objects.s3_claim(WRONG_SECRET, bucket)[0])
    wrong.says(DATASET, dataset_ref(WRONG_SECRET), "MountVerified", "True")
    wrong.ended(waiting.name)
    assert digest_of(FILES) in wrong.log(waiting.name)
