"""A world on a machine that forbids user namespaces: the same orders, fewer promises, and still nothing left behind."""

import os
import signal

import pytest

from headrace.sandbox.supervised import is_alive
from headrace.sandbox.testing import RunningWorld, family, read_log, wait_until
from headrace.sandbox.wire import Refusal


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


@pytest.fixture
def world(plain_world: RunningWorld) -> RunningWorld:
    return plain_world


@pytest.fixture
def volume(world: RunningWorld) -> str:
    place = os.path.join(world.directory, "volume")
    world.client.call("run", argv=shell(f"mkdir -p {place}/ds; echo here > {place}/ds/file"))
    return place


def test_it_says_what_is_missing_and_why(world: RunningWorld) -> None:
    hello = world.client.call("hello")
    assert not any(hello["features"].values())
    assert "No space left on device" in hello["reasons"]["userns"]
    assert "max_user_namespaces" in hello["reasons"]["userns"], "and the cure"


def test_mounts_are_other_paths(world: RunningWorld, volume: str) -> None:
    mounts = [{"target": "/data", "source": volume, "sub_path": "ds"}, {"target": "/memory", "tmpfs": {}}]
    script = "cat /data/file; echo $HEADRACE_MOUNT_DATA; pwd; echo x > /memory/x && cat /memory/x; grep NoNewPrivs /proc/self/status"
    env = {"HEADRACE_MOUNT_DATA": "/data"}
    ended = world.run("p", shell(script), mounts=mounts, env=env, cwd="/data")
    assert ended.stdout.split("\n") == ["here", f"{volume}/ds", f"{volume}/ds", "x", "NoNewPrivs:\t1", ""]
    again = world.start("p", "main", ["true"], mounts=mounts)
    assert again["relocated"]["/data"] == f"{volume}/ds"
    assert set(again["relocated"]) == {"/data", "/memory"}


def test_the_end_of_a_program_is_the_end_of_all_it_started(world: RunningWorld) -> None:
    leaves = "setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 & exec sleep 1000' & sleep 0.1; exit 4"
    ended = world.run("p", shell(leaves), limits={"nofile": 64})
    assert ended.exit_code == 4
    assert len(family(world.process.pid)) == 3, "outer, world, pod"


def test_a_removed_pod_is_gone_at_once(world: RunningWorld) -> None:
    for number in range(2):
        script = "trap '' TERM; setsid sleep 1000 & exec sleep 1000"
        world.start("p", f"c{number}", shell(script), mounts=[{"target": "/memory", "tmpfs": {}}])
    wait_until(lambda: len(family(world.process.pid)) == 2 + 1 + 2 * 3)
    members = family(world.process.pid)[2:]
    world.client.call("pod.remove", pod="p")
    assert len(family(world.process.pid)) == 2
    assert not any(is_alive(member) for member in members)
    assert os.listdir(os.path.join(world.directory, "stage", "plain")) == []


@pytest.mark.parametrize("victim", ["outer", "world", "pod", "container"])
def test_kill_9_of_anything_leaves_nothing(world: RunningWorld, victim: str) -> None:
    program = world.start("p", "main", shell("setsid sleep 1000 & exec sleep 1000"))["pid"]
    wait_until(lambda: len(family(world.process.pid)) == 6)
    outer, inner, pod, init = (member["pid"] for member in family(world.process.pid)[:4])
    members = family(world.process.pid)
    assert program in [member["pid"] for member in members]
    pid = {"outer": outer, "world": inner, "pod": pod, "container": init}[victim]
    spared = {"outer": 0, "world": 0, "pod": 2, "container": 3}[victim]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: sum(is_alive(member) for member in members if member["pid"] != outer) <= max(0, spared - 1))
    if victim in ("pod", "container"):
        wait_until(lambda: world.journal()[-1]["type"] == ("pod-removed" if victim == "pod" else "container-exited"))
        exited = next(entry for entry in world.journal() if entry["type"] == "container-exited")
        assert exited["exit_code"] == 137


def test_exec_signals_memory_and_services(world: RunningWorld, volume: str) -> None:
    mounts = [{"target": "/data", "source": volume, "sub_path": "ds"}]
    world.start("p", "main", ["sleep", "1000"], mounts=mounts, env={"A": "1"})
    out, out_end = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    argv = shell("cat /data/file; echo $A")
    world.client.call("container.exec", pod="p", container="main", argv=argv, fds=[null, out_end, out_end])
    os.close(out_end)
    assert next(world.client.events(10))["exit_code"] == 0
    with open(out, "rb") as file:
        assert file.read() == b"here\n1\n"
    world.client.call("container.exec", pod="p", container="main", argv=["sleep", "1000"], fds=[null] * 3)
    os.close(null)
    world.client.call("container.signal", pod="p", container="main", signal=15)
    assert next(world.client.events(10))["exit_code"] == 137, "it ends with its container"
    grow = "import time\nkept = []\nwhile True:\n    kept.append(bytearray(8 << 20)); time.sleep(0.005)"
    ended = world.run("p", ["python3", "-c", grow], container="big", limits={"memory_bytes": 64 << 20})
    assert ended.entry["reason"] == "OOMKilled"
    log = {"path": world.log_path("world", "s")}
    world.client.call("service.start", service="s", argv=shell("echo up; exec sleep 1000"), log=log)
    wait_until(lambda: ("stdout", "up\n") in read_log(log["path"]))


def test_what_cannot_be_is_refused(world: RunningWorld, volume: str) -> None:
    with pytest.raises(Refusal, match=r"cannot be bound on .*No space left on device"):
        world.client.call("mount.bind", source=volume, target=f"{volume}-2")
    with pytest.raises(Refusal, match="needs user namespaces"):
        world.start("p", "main", ["true"], root="/usr")
    with pytest.raises(Refusal, match="command not found on this machine: 'nope'"):
        world.start("p", "main", ["nope"])
    assert world.client.call("mount.tmpfs", target=f"{volume}-3")["plain"]
    assert os.path.isdir(f"{volume}-3")
    assert world.client.call("mount.unmount", target=f"{volume}-3", all=True)["unmounted"] == 0
    ended = world.run("p", shell("echo words > /dev/termination-log"), termination_message_path="/dev/termination-log")
    assert ended.entry["termination_message"] == "words\n"
