"""Ports on a network that all share: only the pod's own listeners are found, wherever they bind."""

import os
import socket
from pathlib import Path

import pytest

from headrace.sandbox.listening import listeners_at, pid_of, sockets_of
from headrace.sandbox.testing import RunningWorld, missing_features, running_world, wait_until
from headrace.sandbox.wire import Message, Refusal

POD = "127.64.7.2"
ADDRESSES = [POD, "127.0.0.1", "::1"]
SERVER = """
import socket, sys, time
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
time.sleep(1000)
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def ask(world: RunningWorld, port: int) -> Message:
    answer = world.client.call("pod.listening", pod="p", port=port, addresses=ADDRESSES)
    return {key: answer[key] for key in ("address", "foreign")}


def until_found(world: RunningWorld, port: int, address: str) -> None:
    wait_until(lambda: ask(world, port) == {"address": address, "foreign": False})


@pytest.mark.parametrize(("bound", "found"), [(POD, POD), ("0.0.0.0", POD), ("127.0.0.1", "127.0.0.1")])
def test_a_pods_listener_is_found(world: RunningWorld, bound: str, found: str) -> None:
    port = free_port()
    assert ask(world, port) == {"address": "", "foreign": False}
    world.start("p", "main", ["python3", "-c", SERVER, bound, str(port)])
    until_found(world, port, found)


def test_what_exec_started_in_the_pod_counts(world: RunningWorld) -> None:
    port = free_port()
    world.start("p", "main", ["sleep", "1000"])
    null = os.open(os.devnull, os.O_RDWR)
    argv = ["python3", "-c", SERVER, POD, str(port)]
    world.client.call("container.exec", pod="p", container="main", argv=argv, fds=[null, null, null])
    os.close(null)
    until_found(world, port, POD)


def test_others_listeners_are_not_given_out(world: RunningWorld) -> None:
    world.start("p", "main", ["sleep", "1000"])
    with socket.create_server(("0.0.0.0", 0)) as ours:
        assert ask(world, ours.getsockname()[1]) == {"address": "", "foreign": True}
    world.client.call("pod.create", pod="q")
    port = free_port()
    world.start("q", "other", ["python3", "-c", SERVER, "0.0.0.0", str(port)])
    wait_until(lambda: ask(world, port) == {"address": "", "foreign": True})
    with pytest.raises(Refusal, match="there is no pod r"):
        world.client.call("pod.listening", pod="r", port=port, addresses=ADDRESSES)


def test_without_namespaces_descent_decides(tmp_path: Path) -> None:
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACE TO FORBID ANOTHER IN: {why}")
    with running_world(tmp_path, without_namespaces=True) as world:
        port = free_port()
        world.client.call("pod.create", pod="p")
        world.start("p", "main", ["python3", "-c", SERVER, "0.0.0.0", str(port)])
        until_found(world, port, POD)
        with socket.create_server(("0.0.0.0", 0)) as ours:
            assert ask(world, ours.getsockname()[1]) == {"address": "", "foreign": True}


def test_our_own_sockets_are_found() -> None:
    with socket.create_server((POD, 0)) as server:
        port = server.getsockname()[1]
        found = listeners_at(port)
        assert [one.address for one in found] == [socket.inet_aton(POD)]
        assert {one.inode for one in found} <= sockets_of([os.getpid()])
    assert listeners_at(port) == []
    assert sockets_of([-1]) == set()


def test_a_pidfd_names_its_process() -> None:
    fd = os.pidfd_open(os.getpid())
    assert pid_of(fd) == os.getpid()
    os.close(fd)
