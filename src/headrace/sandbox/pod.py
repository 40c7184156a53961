"""A pod's pid 1: the parent of its containers' pid 1s, and the handle by which all of them end at once.

It starts a container when the world says so and says when one is gone, that is when no process of it is left.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable

from headrace.sandbox import container, plain, syscalls
from headrace.sandbox.loop import Loop, fork

_MESSAGE_BYTES = 4096


def run(orders: socket.socket, host_proc: int, *, is_plain: bool) -> None:
    """Be pid 1 of a PID namespace for ever; SIGKILL from outside is the way to end it, and then everything in it ends.

    Without namespaces (`is_plain`) it is a subreaper instead, and the world kills what it leaves behind.

    Args:
        orders: SOCK_SEQPACKET to the world: `{"start": tag}` with descriptors of the order (a memfd) and the report
            socket, and `{"kill": tag}`, come in; `{"tag": tag}` goes out when nothing of that container is left,
            with `"failed": sentence` when there was nothing to begin with.
        host_proc: a /proc of the machine.
    """
    syscalls.set_name("pod")
    loop = Loop()
    own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    containers: dict[str, int] = {}
    if is_plain:
        syscalls.set_child_subreaper()

    def gone(tag: str) -> None:
        del containers[tag]
        if is_plain:
            plain.end_strays(containers.values())
        orders.send(json.dumps({"tag": tag}).encode())

    def receive() -> None:
        data, fds, _, _ = socket.recv_fds(orders, _MESSAGE_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
        if not data:  # the world is gone
            if is_plain:
                plain.end_strays(())
            os._exit(0)
        message = json.loads(data)
        if "kill" in message:
            if message["kill"] in containers:
                os.kill(containers[message["kill"]], signal.SIGKILL)
            return
        tag, (order, report) = message["start"], fds
        try:
            pid = fork_pid_1(
                -1 if is_plain else own_namespace,
                lambda: _be_container(order, report, host_proc),
                (order, report, host_proc),
            )
        except OSError as error:
            orders.send(json.dumps({"tag": tag, "failed": str(error)}).encode())
        else:
            containers[tag] = pid
            loop.on_exit(pid, lambda _status: gone(tag))
        finally:
            os.close(order)
            os.close(report)

    loop.on_readable(orders.fileno(), receive)
    loop.run()


def fork_pid_1(own_namespace: int, child: Callable[[], int | None], keep: tuple[int, ...]) -> int:
    """Fork `child` as pid 1 of a new PID namespace; later children are born into the caller's again.

    Args:
        own_namespace: the caller's PID namespace; -1 for an ordinary fork where namespaces are forbidden.
    """
    if own_namespace < 0:
        return fork(child, keep)
    syscalls.unshare(syscalls.CLONE_NEWPID)
    try:
        return fork(child, keep)
    finally:
        syscalls.setns(own_namespace, syscalls.CLONE_NEWPID)


def _be_container(order: int, report: int, host_proc: int) -> None:
    with os.fdopen(order, "rb") as file:
        text = file.read()
    container.run(json.loads(text), socket.socket(fileno=report), host_proc)
