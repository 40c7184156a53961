"""The world as a server: its journal, its pods, services, short commands, and clients that behave badly."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.sandbox import wire
from headrace.sandbox.client import Client
from headrace.sandbox.testing import RunningWorld, family, read_log, running_world, start_world, wait_until
from headrace.sandbox.wire import Refusal


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_hello_says_who_and_what(world: RunningWorld) -> None:
    hello = world.client.call("hello")
    assert hello["world"] == "test"
    assert hello["pid"] in [member["pid"] for member in family(world.process.pid)], "as the machine counts"
    assert set(hello["features"]) == {"userns", "fuse", "overlay", "cgroup2", "proc"}
    assert set(hello["reasons"]) == {name for name, there in hello["features"].items() if not there}
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() == hello["boot_id"]


def test_follow_replays_and_then_streams(world: RunningWorld) -> None:
    world.run("p", ["true"])
    follower = world.follow(after=1)
    events = follower.events(10)
    assert [next(events)["type"] for _ in range(3)] == ["pod-created", "container-started", "container-exited"]
    world.client.call("pod.create", pod="q")
    event = next(events)
    assert (event["event"], event["type"], event["pod"]) == ("journal", "pod-created", "q")
    assert event == {"event": "journal", **world.journal()[-1]}, "on disk before it is told"
    follower.close()


def test_the_journal_is_trimmed_and_goes_on_counting(world: RunningWorld) -> None:
    last = world.client.call("hello")["journal_seq"]
    world.client.call("journal.trim", upto=last)
    assert [entry["seq"] for entry in world.journal()] == [last]
    world.client.call("pod.create", pod="q")
    assert [entry["seq"] for entry in world.journal()] == [last, last + 1]


def test_a_removed_pod_is_gone_at_once(world: RunningWorld) -> None:
    for number in range(3):
        world.start("p", f"c{number}", shell("trap '' TERM; sleep 1000"))
    # The outer process, world, pod; three pid 1s, shells and sleeps.
    wait_until(lambda: len(family(world.process.pid)) == 3 + 3 * 3)
    began = time.monotonic()
    world.client.call("pod.remove", pod="p")
    assert time.monotonic() - began < 5
    assert len(family(world.process.pid)) == 2
    ends = world.journal()[-4:]
    assert [entry["type"] for entry in ends] == ["container-exited"] * 3 + ["pod-removed"]
    assert {entry.get("reason") for entry in ends} == {"PodRemoved", "Removed"}
    world.client.call("pod.remove", pod="p")
    assert world.client.call("state")["pods"] == []
    with pytest.raises(Refusal, match="there is no pod p here"):
        world.start("p", "c", ["true"])


def test_a_pod_with_grace_ends_when_its_containers_have(world: RunningWorld) -> None:
    world.start("p", "polite", shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done"))
    wait_until(lambda: bool(read_log(world.log_path("p", "polite"))))
    world.client.call("pod.remove", pod="p", grace_s=30)
    exited = next(entry for entry in world.journal() if entry["type"] == "container-exited")
    assert exited["exit_code"] == 3
    assert read_log(world.log_path("p", "polite"))[-1] == ("stdout", "bye\n")


def test_grace_ends(world: RunningWorld) -> None:
    world.start("p", "rude", shell("trap '' TERM; echo up; while :; do sleep 0.01; done"))
    wait_until(lambda: bool(read_log(world.log_path("p", "rude"))))
    world.client.call("pod.remove", pod="p", grace_s=0.2)
    assert next(entry for entry in world.journal() if entry["type"] == "container-exited")["signal"] == 9


def test_services_run_with_the_worlds_capabilities(world: RunningWorld) -> None:
    log = {"path": world.log_path("world", "s")}
    argv = shell("grep CapEff /proc/self/status; mount -t tmpfs x /mnt && echo mounted; sleep 1000")
    pid = world.client.call("service.start", service="s", argv=argv, log=log)["pid"]
    assert world.client.call("service.start", service="s", argv=argv, log=log)["pid"] == pid
    with pytest.raises(Refusal, match="runs another command"):
        world.client.call("service.start", service="s", argv=["true"], log=log)
    wait_until(lambda: ("stdout", "mounted\n") in read_log(log["path"]))
    assert int(read_log(log["path"])[0][1].split()[1], 16) > 0
    assert [service["service"] for service in world.client.call("state")["services"]] == ["s"]
    world.client.call("service.stop", service="s")
    world.client.call("service.stop", service="s")
    assert world.client.call("state")["services"] == []
    assert world.journal()[-1]["type"] == "service-exited"
    with pytest.raises(Refusal, match="command not found on this machine: 'nope'"):
        world.client.call("service.start", service="s", argv=["nope"], log=log)


def test_a_service_may_be_restarted(world: RunningWorld) -> None:
    log = {"path": world.log_path("world", "s")}
    world.client.call("service.start", service="s", argv=shell("echo again"), log=log, restart=True)
    wait_until(lambda: len(read_log(log["path"])) >= 3)
    world.client.call("service.stop", service="s")
    assert world.client.call("state")["services"] == []


def test_short_commands(world: RunningWorld) -> None:
    call = world.client.call
    answer = call("run", argv=shell("echo out; echo err >&2; exit 3"))
    assert (answer["exit_code"], answer["output"], answer["truncated"]) == (3, "out\nerr\n", False)
    answer = call("run", argv=["seq", "1000000"], max_output_bytes=6)
    assert (answer["output"], answer["truncated"]) == ("1\n2\n3\n", True)
    with pytest.raises(Refusal, match=r"did not end within 0\.1 s") as refused:
        call("run", argv=["sleep", "1000"], timeout_s=0.1)
    assert refused.value.code == "Timeout"


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"op": "nope"}, "there is no op 'nope'; there are "),
        ({"op": 7}, "there is no op 7"),
        ({"op": "pod.create"}, "pod must be a non-empty string"),
        ({"op": "follow", "after": "x"}, "after must be the number"),
        ({"op": "container.start", "pod": "p", "container": "c", "argv": []}, "argv must be a list of at least 1"),
        ({"op": "container.start", "pod": "p", "container": "c", "argv": ["x"]}, "log must be an object"),
        ({"op": "container.signal", "pod": "p", "container": "none", "signal": 9}, "has no container none"),
        ({"op": "run", "argv": ["x\0y"]}, "argv must be a list"),
    ],
)
def test_bad_orders_get_a_sentence(world: RunningWorld, request_: wire.Message, sentence: str) -> None:
    op = request_.pop("op")
    with pytest.raises(Refusal) as refused:
        world.client.call(op, **request_)
    assert sentence in refused.value.message


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x04nope", b"\x00\x00\x00\x02[]", b"\xff" * 100, b"\x00\x00"]
)
def test_garbage_costs_the_client_its_connection_only(world: RunningWorld, garbage: bytes) -> None:
    client = wire.connect(world.socket)
    client.sendall(garbage)
    client.shutdown(socket.SHUT_WR)
    client.settimeout(10)
    assert client.recv(100) == b""
    client.close()
    assert world.client.call("hello")["ok"]


def test_a_client_that_never_reads_is_hung_up_on(world: RunningWorld) -> None:
    client = wire.connect(world.socket)
    request = wire.encode({"id": 1, "op": "x" * 10_000})
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.sendall(request * 5000)
    client.close()
    assert world.client.call("hello")["ok"]


def test_descriptors_nobody_asked_for_are_closed(world: RunningWorld) -> None:
    open_before = len(os.listdir(f"/proc/{world.client.call('hello')['pid']}/fd"))
    for _ in range(20):
        with Client(world.socket) as client:
            client.call("hello", fds=[0, 1, 2])
    assert len(os.listdir(f"/proc/{world.client.call('hello')['pid']}/fd")) == open_before


def test_two_worlds_cannot_share_a_directory(world: RunningWorld) -> None:
    code = (
        "from headrace.sandbox import world; world._LOCK_WITHIN_S = 0.1\n"
        f"world.main(['--directory', {world.directory!r}, '--socket', {world.socket + '2'!r}])"
    )
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert second.returncode == 1
    assert "a world already runs in" in second.stderr


def test_shutdown_and_a_new_world_in_the_same_place(tmp_path: Path, world: RunningWorld) -> None:
    world.start("p", "main", ["sleep", "1000"])
    before = family(world.process.pid)
    world.client.call("shutdown")
    assert world.process.wait(10) == 0
    assert len(before) == 5
    assert [entry["type"] for entry in world.journal()][-2:] == ["container-exited", "pod-removed"]
    process = start_world(world.directory)
    try:
        with Client(world.socket) as client:
            assert client.call("state")["pods"] == []
            assert client.call("hello")["journal_seq"] == world.journal()[-1]["seq"] == 6
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_two_worlds_side_by_side(tmp_path: Path, world: RunningWorld) -> None:
    with running_world(tmp_path / ("far-" * 20)) as other:
        other.client.call("pod.create", pod="p")
        assert other.run("p", ["echo", "there"]).stdout == "there\n"
        assert world.run("p", ["echo", "here"]).stdout == "here\n"
