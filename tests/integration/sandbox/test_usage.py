"""What a world tells of the usage of its containers, with real processes."""

import os
from pathlib import Path
from typing import Any

import pytest

from headrace.sandbox.testing import RunningWorld, read_log, wait_until
from headrace.sandbox.wire import Message, Refusal

MEBIBYTE = 1 << 20
HALF = 500_000_000  # nanoseconds
BURN = "import time\nwhile time.process_time() < 0.52: pass\n"  # of what has ended the kernel tells hundredths, rounded down
SLEEP = "import time; print('there', flush=True); time.sleep(1000)"
KEEP = f"kept = bytearray(b'x') * ({64 * MEBIBYTE})\n"


def usage(world: RunningWorld, pod: str = "p", **order: Any) -> Message:
    answer = world.client.call("usage", **order)
    found: Message = next(one for one in answer["pods"] if one["pod"] == pod)
    return found


def container(world: RunningWorld, name: str = "main") -> Message:
    found: Message = next(one for one in usage(world)["containers"] if one["container"] == name)
    return found


def start(world: RunningWorld, program: str, *, processes: int = 1, **order: Any) -> None:
    """Start a Python program and return when that many processes have said something."""
    world.start("p", "main", ["python3", "-c", program], **order)
    wait_until(lambda: len(read_log(world.log_path("p", "main"))) >= processes)


def run_in(world: RunningWorld, program: str) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    argv = ["python3", "-c", program]
    events = world.follow(world.client.call("hello")["journal_seq"])
    world.client.call("container.exec", pod="p", container="main", argv=argv, fds=[null, null, null])
    assert next(one for one in world.client.events(20) if one["event"] == "exec.exited")["exit_code"] == 0
    events.close()
    os.close(null)


@pytest.mark.parametrize(
    "program",
    [
        BURN + SLEEP,
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}], check=True)\n" + SLEEP,
        # An orphan, which the container's pid 1 waits for.
        f"import os, sys\nread, write = os.pipe()\nif not os.fork():\n    if os.fork(): os._exit(0)\n    exec({BURN!r})\n"
        "    os._exit(0)\nos.close(write); os.wait(); os.read(read, 1)\n" + SLEEP,
    ],
    ids=["itself", "a child", "an orphan"],
)
def test_time_is_counted_whoever_spent_it_and_has_ended(world: RunningWorld, program: str) -> None:
    start(world, program)
    wait_until(lambda: container(world)["cpu_ns"] >= HALF)
    answer = world.client.call("usage")
    pod = answer["pods"][0]
    assert answer["cpu_ns"] >= pod["cpu_ns"] >= pod["containers"][0]["cpu_ns"] < 20e9


def test_what_hardly_runs_is_not_told_to_use_nothing(world: RunningWorld) -> None:
    world.start("p", "main", ["sleep", "1000"])
    assert 0 < container(world)["cpu_ns"] < HALF


def test_commands_count_while_they_run_and_afterwards(world: RunningWorld) -> None:
    start(world, SLEEP)
    before = usage(world)
    run_in(world, BURN)
    after = usage(world)
    assert after["containers"][0]["cpu_ns"] >= before["containers"][0]["cpu_ns"] + HALF
    assert after["cpu_ns"] >= before["cpu_ns"] + HALF


def test_a_container_that_starts_again_begins_at_nothing_and_its_pod_goes_on(world: RunningWorld) -> None:
    assert world.run("p", ["python3", "-c", BURN]).exit_code == 0
    start(world, SLEEP, attempt=1)
    pod = usage(world)
    [one] = pod["containers"]
    assert (one["container"], one["attempt"]) == ("main", 1)
    assert one["cpu_ns"] < HALF <= pod["cpu_ns"]
    started = world.client.call("state")["pods"][0]["containers"][0]["started"]
    assert one["started_wall_ns"] == started["wall_ns"]


def test_memory_is_what_the_processes_and_files_in_memory_take(world: RunningWorld) -> None:
    start(world, KEEP + "open('/tmp/x', 'wb').write(bytes(32 << 20))\n" + SLEEP)
    used = container(world)["memory_bytes"]
    assert 96 * MEBIBYTE < used < 128 * MEBIBYTE
    answer = world.client.call("usage")
    assert answer["memory_bytes"] > answer["pods"][0]["memory_bytes"] > used


def test_what_processes_share_counts_once(world: RunningWorld) -> None:
    start(world, KEEP + "import os\nfor _ in range(4):\n    if not os.fork(): break\n" + SLEEP, processes=5)
    assert 64 * MEBIBYTE < container(world)["memory_bytes"] < 112 * MEBIBYTE


MAP = """
import mmap, os
fd = os.open("/dev/shm/x", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 48 << 20)
shown = mmap.mmap(fd, 48 << 20)
shown[:] = bytes([1]) * (48 << 20)
"""


def test_a_file_in_memory_that_is_mapped_counts_once(world: RunningWorld) -> None:
    start(world, MAP + SLEEP)
    assert 48 * MEBIBYTE < container(world)["memory_bytes"] < 80 * MEBIBYTE


def test_a_volume_in_memory_is_its_pods(world: RunningWorld, tmp_path: Path) -> None:
    volume = str(tmp_path / "world" / "cache")
    world.client.call("mount.tmpfs", target=volume)
    mounts = [{"target": "/cache", "source": volume}]
    start(world, "open('/cache/x', 'wb').write(bytes(40 << 20))\n" + SLEEP, mounts=mounts)
    alone, whole = usage(world), usage(world, volumes={"p": [volume]})
    assert whole["memory_bytes"] - alone["memory_bytes"] >= 39 * MEBIBYTE
    not_its_own = usage(world, volumes={"p": ["/", str(tmp_path), "/nowhere"]})
    assert not_its_own["memory_bytes"] < alone["memory_bytes"] + 8 * MEBIBYTE
    with pytest.raises(Refusal, match="volumes must be an object"):
        world.client.call("usage", volumes=["/"])


def test_what_has_ended_is_not_told(world: RunningWorld) -> None:
    world.run("p", ["true"])
    assert usage(world)["containers"] == []
    world.client.call("pod.remove", pod="p")
    assert world.client.call("usage")["pods"] == []


def test_without_namespaces_descent_decides(plain_world: RunningWorld) -> None:
    start(plain_world, f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])\n" + KEEP + SLEEP)
    one = container(plain_world)
    assert one["cpu_ns"] >= HALF
    assert 64 * MEBIBYTE < one["memory_bytes"] < 112 * MEBIBYTE
