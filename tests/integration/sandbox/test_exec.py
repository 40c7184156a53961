"""Programs started inside a container that runs."""

import os
import pty
import time
from typing import Any

import pytest

from headrace.sandbox.client import Client
from headrace.sandbox.testing import RunningWorld, family
from headrace.sandbox.wire import Message, Refusal


@pytest.fixture
def container(world: RunningWorld) -> RunningWorld:
    world.start("p", "main", ["sleep", "1000"], uid=1000, gid=1000, env={"A": "1", "B": "1"}, cwd="/usr")
    return world


def execute(client: Client, argv: list[str], *, given: bytes = b"", **order: Any) -> tuple[str, str, Message]:
    """Run a command in the container; return its output, its errors, and the event of its end."""
    stdin, stdin_end = os.pipe()
    stdout, stdout_end = os.pipe()
    stderr, stderr_end = os.pipe()
    try:
        client.call(
            "container.exec", pod="p", container="main", argv=argv, fds=[stdin, stdout_end, stderr_end], **order
        )
    finally:
        for fd in (stdin, stdout_end, stderr_end):
            os.close(fd)
    os.write(stdin_end, given)
    os.close(stdin_end)
    with open(stdout, "rb") as out, open(stderr, "rb") as err:
        texts = out.read().decode(), err.read().decode()
    return *texts, next(client.events(10))


def test_it_is_as_the_program_is(container: RunningWorld) -> None:
    script = "id -u; pwd; echo $A$B; hostname; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; cat; exit 5"
    out, _, event = execute(container.client, ["sh", "-c", script], given=b"from stdin\n", env={"B": "2"})
    assert out.split("\n") == [
        "1000", "/usr", "12", "host-of-p", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "from stdin", "",
    ]  # fmt: skip
    assert (event["event"], event["exit_code"]) == ("exec.exited", 5)


def test_it_sees_and_may_signal_the_program(container: RunningWorld) -> None:
    out, err, _ = execute(
        container.client, ["sh", "-c", "readlink /proc/2/exe; cat /proc/2/environ | tr '\\0' ' '; kill 2"]
    )
    assert out.startswith("/usr/bin/sleep\n")
    assert "A=1" in out
    assert err == ""
    follower = container.follow()
    assert next(event for event in follower.events(10) if event["type"] == "container-exited")["signal"] == 15
    follower.close()


def test_commands_that_cannot_start(container: RunningWorld) -> None:
    with pytest.raises(Refusal, match="command not found in the container: 'nope'"):
        execute(container.client, ["nope"])
    with pytest.raises(Refusal, match="'/no/dir' cannot be entered"):
        execute(container.client, ["true"], cwd="/no/dir")
    with pytest.raises(Refusal, match="needs 3 descriptors; 0 came"):
        container.client.call("container.exec", pod="p", container="main", argv=["true"])
    with pytest.raises(Refusal, match="has no container other"):
        container.client.call("container.exec", pod="p", container="other", argv=["true"], fds=[0, 1, 2])


def test_a_terminal(container: RunningWorld) -> None:
    master, slave = pty.openpty()
    call: dict[str, Any] = {"pod": "p", "container": "main", "tty": True, "columns": 101, "rows": 33}
    container.client.call(
        "container.exec",
        argv=["sh", "-c", "stty size; test -t 0 && echo yes; read x; echo got $x"],
        fds=[slave],
        **call,
    )
    os.close(slave)
    os.write(master, b"typed\n")
    assert next(container.client.events(10))["exit_code"] == 0
    seen = b""
    while b"got typed" not in seen:
        seen += os.read(master, 1000)
    os.close(master)
    assert seen.startswith((b"33 101\r\n", b"typed\r\n33 101"))
    assert b"yes\r\n" in seen


def test_signals_reach_it(container: RunningWorld) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    answer = container.client.call("container.exec", pod="p", container="main", argv=["sleep", "1000"], fds=[null] * 3)
    os.close(null)
    assert container.client.call("exec.signal", exec=answer["exec"], signal=2)["running"]
    assert next(container.client.events(10))["exit_code"] == 130
    assert not container.client.call("exec.signal", exec=answer["exec"], signal=2)["running"]


def test_it_ends_with_the_container_and_with_its_client(container: RunningWorld) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    before = len(family(container.process.pid))
    with Client(container.socket) as other:
        other.call("container.exec", pod="p", container="main", argv=["sleep", "1000"], fds=[null] * 3)
        assert len(family(container.process.pid)) == before + 2
    deadline = time.monotonic() + 10
    while len(family(container.process.pid)) != before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    container.client.call("container.exec", pod="p", container="main", argv=["sleep", "1000"], fds=[null] * 3)
    os.close(null)
    after = container.client.call("hello")["journal_seq"]
    container.client.call("container.signal", pod="p", container="main", signal=9)
    assert next(container.client.events(10))["exit_code"] == 137  # the command's; the container's own comes after it
    follower = container.follow(after)
    assert next(event for event in follower.events(10) if event["type"] == "container-exited")["exit_code"] == 137
    follower.close()
    with pytest.raises(Refusal, match=r"is not running|ended before"):
        container.client.call("container.exec", pod="p", container="main", argv=["true"], fds=[0, 1, 2])
