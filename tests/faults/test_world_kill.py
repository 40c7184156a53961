"""`kill -9` of everything a world consists of, at seeded moments: nothing is left, and the journal tells no lie."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from headrace.sandbox import wire
from headrace.sandbox.client import Client
from headrace.sandbox.supervised import is_alive
from headrace.sandbox.testing import (
    RunningWorld,
    family,
    missing_features,
    mounts_of_machine,
    running_world,
    start_world,
    wait_until,
)
from headrace.sandbox.wire import Message, Refusal

SEEDS = (11, 23, 42)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RunningWorld]:
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACES, WORLDS ARE NOT TESTED: {why}")
    with running_world(tmp_path) as running:
        yield running


def populate(world: RunningWorld, rng: random.Random) -> list[str]:
    """Start a few pods with long and short containers, an exec, a service and a mount; return the pods' names."""
    pods = [f"pod-{number}" for number in range(rng.randint(1, 3))]
    volume = os.path.join(world.directory, "volume")
    world.client.call("mount.tmpfs", target=volume)
    world.client.call("service.start", service="s", argv=["sleep", "1000"], log={"path": world.log_path("world", "s")})
    null = os.open(os.devnull, os.O_RDWR)
    for pod in pods:
        world.client.call("pod.create", pod=pod)
        for number in range(rng.randint(1, 3)):
            script = rng.choice(
                ("exec sleep 1000", "while :; do echo x; sleep 0.001; done", f"sleep {rng.random() / 10}")
            )
            mounts = [{"source": volume, "target": "/data", "propagation": "HostToContainer"}]
            world.start(pod, f"c{number}", ["sh", "-c", f"trap '' TERM; {script}"], mounts=mounts)
        world.start(pod, "stays", ["sleep", "1000"])
        world.client.call("container.exec", pod=pod, container="stays", argv=["sleep", "1000"], fds=[null] * 3)
    os.close(null)
    return pods


def assert_nothing_left(members: Sequence[Message], world: RunningWorld) -> None:
    wait_until(lambda: not any(is_alive(member) for member in members))
    assert mounts_of_machine(world.directory) == []


def assert_consistent(journal: Sequence[Message], *, all_ended: bool) -> None:
    """Numbers have no gap, time does not go back, and starts and ends alternate for each container and pod."""
    assert [entry["seq"] for entry in journal] == list(range(1, len(journal) + 1))
    open_pods: set[str] = set()
    started: dict[tuple[str, str], Message] = {}
    for entry in journal:
        kind, pod = entry["type"], entry.get("pod", "")
        if kind == "pod-created":
            assert pod not in open_pods
            open_pods.add(pod)
        elif kind == "pod-removed":
            open_pods.remove(pod)
            assert not [key for key in started if key[0] == pod], "its containers ended before it"
        elif kind == "container-started":
            assert pod in open_pods
            assert (pod, entry["container"]) not in started
            started[pod, entry["container"]] = entry
        elif kind == "container-exited":
            start = started.pop((pod, entry["container"]))
            assert entry["attempt"] == start["attempt"]
            assert start["wall_ns"] <= entry["wall_ns"] <= time.time_ns()
            assert start["mono_ns"] <= entry["mono_ns"]
    if all_ended:
        assert not started
        assert not open_pods


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("victim", ["world", "outer"])
def test_a_killed_world_takes_everything_along(world: RunningWorld, victim: str, seed: int) -> None:
    rng = random.Random(seed)
    populate(world, rng)
    time.sleep(rng.random() * 1.5)
    members = family(world.process.pid)
    pid = world.client.call("hello")["pid"] if victim == "world" else world.process.pid
    killed_ns = time.time_ns()
    os.kill(pid, signal.SIGKILL)
    assert world.process.wait(10) != 0
    assert_nothing_left(members, world)
    assert_consistent(world.journal(), all_ended=victim == "outer")
    second = start_world(world.directory)
    try:
        journal = world.journal()
        assert_consistent(journal, all_ended=True)
        lost = [entry for entry in journal if entry.get("reason") == "WorldLost"]
        assert all(entry["wall_ns"] <= killed_ns for entry in lost), "not a nanosecond more is charged than is proved"
        assert all(killed_ns - entry["wall_ns"] < 3 * 10**9 for entry in lost)
        if victim == "world":
            assert {entry["type"] for entry in lost} == {"container-exited", "pod-removed"}
        with Client(world.socket) as client:
            assert client.call("state") | {"id": 0} == {"id": 0, "ok": True, "pods": [], "services": []}
    finally:
        second.terminate()
        second.wait(10)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_killed_while_it_starts_containers(world: RunningWorld, seed: int) -> None:
    rng = random.Random(seed)
    pid = world.client.call("hello")["pid"]
    with Client(world.socket) as client:
        for number in range(20):
            client.send("pod.create", pod=f"p{number}")
            log = {"path": world.log_path(f"p{number}", "c")}
            client.send("container.start", pod=f"p{number}", container="c", argv=["sleep", "1000"], log=log)
        time.sleep(rng.random() * 0.3)
        members = family(world.process.pid)
        os.kill(pid, signal.SIGKILL)
    world.process.wait(10)
    assert_nothing_left(members, world)
    second = start_world(world.directory)
    second.terminate()
    second.wait(10)
    assert_consistent(world.journal(), all_ended=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_pod_takes_only_itself_along(world: RunningWorld, seed: int) -> None:
    rng = random.Random(seed)
    pods = populate(world, rng)
    victim = rng.choice(pods)
    outside = {member["pid"] for member in family(world.process.pid)}
    program = next(
        container["pid"]
        for pod in world.client.call("state")["pods"]
        if pod["pod"] == victim
        for container in pod["containers"]
        if container["container"] == "stays"
    )
    init = parent_of(parent_of(program))
    assert init in outside
    members = family(init)
    follower = world.follow(world.client.call("hello")["journal_seq"])
    os.kill(init, signal.SIGKILL)
    removed = next(event for event in follower.events(10) if event["type"] == "pod-removed")
    follower.close()
    assert (removed["pod"], removed["reason"]) == (victim, "Killed")
    assert not any(is_alive(member) for member in members), "told only when nothing is left"
    assert [pod["pod"] for pod in world.client.call("state")["pods"]] == [pod for pod in pods if pod != victim]
    assert_consistent(world.journal(), all_ended=False)
    world.client.call("pod.create", pod=victim)
    assert world.run(victim, ["echo", "again"]).stdout == "again\n"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_container_takes_only_itself_along(world: RunningWorld, seed: int) -> None:
    rng = random.Random(seed)
    world.client.call("pod.create", pod="p")
    world.start("p", "other", ["sleep", "1000"])
    program = world.start("p", "main", ["sh", "-c", "setsid sleep 1000 & while :; do echo x; done"])["pid"]
    time.sleep(rng.random() / 20)
    init = parent_of(program)
    members = family(init)
    follower = world.follow(world.client.call("hello")["journal_seq"])
    os.kill(init, signal.SIGKILL)
    exited = next(event for event in follower.events(10))
    follower.close()
    assert (exited["container"], exited["exit_code"], exited["reason"]) == ("main", 137, "Killed")
    assert not any(is_alive(member) for member in members)
    states = {
        container["container"]: container["state"] for container in world.client.call("state")["pods"][0]["containers"]
    }
    assert states == {"other": "running", "main": "exited"}
    world.start("p", "main", ["sleep", "1000"], attempt=1)
    assert_consistent(world.journal(), all_ended=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_clients_that_vanish_in_mid_frame(world: RunningWorld, seed: int) -> None:
    rng = random.Random(seed)
    world.client.call("pod.create", pod="p")
    world.start("p", "main", ["sleep", "1000"])
    log = {"path": world.log_path("p", "x")}
    orders: list[Message] = [
        {"id": 1, "op": "container.start", "pod": "p", "container": "x", "argv": ["sleep", "1000"], "log": log},
        {"id": 1, "op": "pod.create", "pod": "q"},
        {"id": 1, "op": "run", "argv": ["sleep", "0.2"]},
        {"id": 1, "op": "follow", "after": 0},
        {"id": 1, "op": "pod.remove", "pod": "q", "grace_s": 1},
    ]
    with ExitStack() as stack:
        for _ in range(40):
            frame = wire.encode(rng.choice(orders))
            client = stack.enter_context(wire.connect(world.socket))
            client.sendall(frame[: rng.randint(1, len(frame))])
            if rng.random() < 0.5:
                client.close()
    pids = {
        container["container"]: container["state"] for container in world.client.call("state")["pods"][0]["containers"]
    }
    assert pids["main"] == "running"
    with pytest.raises(Refusal):
        world.client.call("container.exec", pod="p", container="main", argv=["true"])
    world.client.call("shutdown")
    assert world.process.wait(10) == 0
    assert_consistent(world.journal(), all_ended=True)


def test_a_journal_cut_in_mid_line_loses_that_line_only(world: RunningWorld) -> None:
    populate(world, random.Random(7))
    os.kill(world.client.call("hello")["pid"], signal.SIGKILL)
    world.process.wait(10)
    path = Path(world.directory, "journal.jsonl")
    before = path.read_bytes()
    path.write_bytes(before + b'{"seq": 99, "type": "container-st')
    second = start_world(world.directory)
    second.terminate()
    second.wait(10)
    assert path.read_bytes().startswith(before)
    assert_consistent(world.journal(), all_ended=True)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_supervisor_killed_at_any_moment_loses_no_child(tmp_path: Path, seed: int) -> None:
    """Not even one it had just forked: whatever runs is found again, and nothing runs twice."""
    rng = random.Random(seed)
    own = tmp_path / "own"
    processes = [
        {
            "name": f"n{number}",
            "argv": ["sh", "-c", f"echo $$ >> {own}/ran; exec sleep 1000"],
            "log": f"{own}/n{number}.log",
        }
        for number in range(8)
    ]
    table = {
        "directory": f"{own}/run",
        "lock": f"{own}/lock",
        "socket": f"{own}/socket",
        "unprivileged": {"own": [str(own)]},
        "processes": processes,
    }
    (tmp_path / "table.json").write_text(json.dumps(table))
    command = [sys.executable, "-m", "headrace.sandbox.supervisor", "--table", str(tmp_path / "table.json")]
    try:
        for _ in range(4):
            supervisor = subprocess.Popen([*command, "--foreground"], stdout=subprocess.PIPE)
            assert supervisor.stdout is not None
            supervisor.stdout.readline()
            time.sleep(rng.random() / 50)
            supervisor.kill()
            supervisor.wait()
            supervisor.stdout.close()
        subprocess.run(command, check=True, capture_output=True, timeout=20)
        with Client(f"{own}/socket") as client:
            client.call("wait")
            pids = {process["pid"] for process in client.call("status")["processes"]}
        wait_until(lambda: len((own / "ran").read_text().split()) >= 8)
        ran = {int(line) for line in (own / "ran").read_text().split()}
        assert ran == pids, "each was started once and adopted ever after"
        records = [family(pid)[0] for pid in pids]
    finally:
        subprocess.run([*command, "--down"], check=True, capture_output=True, timeout=60)
    assert not any(is_alive(record) for record in records)
