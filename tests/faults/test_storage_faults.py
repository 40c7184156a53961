"""kill -9 of what stands between a job and its data: replaced, healed, and the job sees errors only in between.

The job reads all files over and over and passes over errors, as a program that retries does. It fails when it reads
anything but the right content, above all the empty directory beneath a mount that is gone.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from tests.installation import installed
from tests.integration.stack import objects
from tests.integration.stack.stack import Stack, eventually, mount, processes_with, program, require_fuse, stack_of
from tests.storage import JuiceFsVolume, juicefs_volume, small_files

from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import POD, TRAIN_JOB

pytestmark = pytest.mark.fuse

DATA = Ref("default", "data")
READING = """
import hashlib, os, pathlib, sys, time

def read():
    files = sorted(path for path in pathlib.Path("/data").rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

right, good = read(), 0
print("reading", flush=True)
end = time.monotonic() + 120
while not os.path.exists("/tmp/stop"):
    if time.monotonic() > end:
        sys.exit("nobody has stopped it")
    try:
        if read() != right:
            sys.exit("it has read something else")
    except OSError as error:
        print("gap" if good >= 20 else "flaps" if good else "goes on", error.strerror, flush=True)
        good = 0
    else:
        good += 1
        if good == 20:
            print("well", flush=True)
    time.sleep(0.02)
"""
"""Says `well` after 20 good reads, then `gap` at the next error; `flaps` when an error came again in between."""


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JuiceFsVolume]:
    require_fuse()
    with juicefs_volume(tmp_path_factory.mktemp("jfs"), small_files(40)) as serving:
        yield serving


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, volume: JuiceFsVolume) -> Iterator[Stack]:
    with installed(tmp_path_factory.mktemp("i")) as installation:
        installation.up()
        with stack_of(installation) as stack:
            stack.apply(objects.profile("juicefs", "juicefs"))
            stack.apply(*objects.juicefs_claim(DATA, volume, subdir="/data"))
            stack.share(DATA, "juicefs")
            stack.verified(DATA)
            yield stack


def reading(stack: Stack, name: str, pool: str) -> None:
    """Start a job that reads on, and return at some moment at which it does."""
    stack.submit(name, program(READING), pools=[pool], mounts=[mount(DATA.name, "/data")])
    stack.until(TRAIN_JOB, Ref("default", name), lambda job: job.status.get("phase") == "Running")
    eventually(lambda: spells(stack, name) == ["well"], "it reads well")
    time.sleep(random.Random(f"seed {name}").uniform(0, 0.5))


def spells(stack: Stack, job: str) -> list[str]:
    """Return the job's good and bad times so far."""
    words = [line.split()[0] for line in stack.log(job)]
    return [word for word in words if word in {"well", "gap", "flaps"}]


def heals(stack: Stack, job: str, *, gaps: int) -> None:
    """Wait until the job reads well again."""
    eventually(lambda: spells(stack, job) == ["well", *["gap", "well"] * gaps], f"{job} reads well again", within_s=40)


def pod_of(stack: Stack, job: str) -> Doc[Any]:
    (pod,) = stack.client.list(POD, labels=f"headrace.io/job={job}")
    return pod


def restarts(pod: Doc[Any]) -> dict[str, int]:
    entries = [*(pod.status.get("initContainerStatuses") or []), *pod.status["containerStatuses"]]
    return {entry["name"]: entry["restartCount"] for entry in entries}


def kill(victims: list[psutil.Process]) -> None:
    assert victims
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)


def brokers(stack: Stack, node: str) -> list[psutil.Process]:
    return processes_with(str(stack.installation.home / "worlds" / node / "csi" / "broker"))


def ends_well(stack: Stack, job: str, *, gaps: int) -> None:
    """Stop the job; it has seen as many gaps as there were kills, and not one more."""
    stack.client.exec(job, ["touch", "/tmp/stop"])
    done = stack.ended(job)
    assert len(done.status["attempts"]) == 1
    assert spells(stack, job) == ["well", *["gap", "well"] * gaps]


def test_a_killed_sidecar_is_replaced_and_its_mount_healed(stack: Stack, volume: JuiceFsVolume) -> None:
    reading(stack, "sidecar", "cloud")
    kill(processes_with(volume.metaurl))
    heals(stack, "sidecar", gaps=1)
    ends_well(stack, "sidecar", gaps=1)
    assert restarts(pod_of(stack, "sidecar")) == {"fluid-fuse-0": 1, "main": 0}


def test_mounts_outlive_their_broker_and_are_healed_by_the_next(stack: Stack, volume: JuiceFsVolume) -> None:
    reading(stack, "broker", "cloud")
    old = brokers(stack, "cloud")
    kill(old)
    eventually(lambda: brokers(stack, "cloud") not in ([], old), "there is another broker")
    assert spells(stack, "broker") == ["well"], "nobody needs a broker to read"
    kill(processes_with(volume.metaurl))
    heals(stack, "broker", gaps=1)
    ends_well(stack, "broker", gaps=1)
    assert restarts(pod_of(stack, "broker")) == {"fluid-fuse-0": 1, "main": 0}


def test_a_killed_client_of_the_own_driver_is_replaced_each_time(stack: Stack, volume: JuiceFsVolume) -> None:
    reading(stack, "native", "own")
    for kills in (1, 2):
        kill(processes_with(volume.metaurl))
        heals(stack, "native", gaps=kills)
    ends_well(stack, "native", gaps=2)
    assert restarts(pod_of(stack, "native")) == {"main": 0}


def test_the_own_drivers_broker_is_replaced(stack: Stack, volume: JuiceFsVolume) -> None:
    reading(stack, "own-broker", "own")
    old = brokers(stack, "own")
    kill([*old, *processes_with(volume.metaurl)])
    heals(stack, "own-broker", gaps=1)
    ends_well(stack, "own-broker", gaps=1)
