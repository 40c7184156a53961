"""Runs a further program inside a running container: a shell for a person, or a probe's command.

A helper enters the container's namespaces, forks, and its child enters the user namespace of the container's program,
so that both are alike to each other and to the kernel. The helper waits, and its exit code is the program's.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import signal
import socket
import struct
import termios
from collections.abc import Callable
from typing import NamedTuple

from headrace.sandbox import orders, plain, process, syscalls
from headrace.sandbox.containers import Container, send_signal
from headrace.sandbox.loop import Loop, exit_code, fork
from headrace.sandbox.server import Call, Connection, Handler
from headrace.sandbox.wire import Message, Refusal

_MESSAGE_BYTES = 65536
_CONTAINER = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS


class _Order(NamedTuple):
    argv: list[str]
    env: dict[str, str]
    cwd: str
    limits: Message
    is_plain: bool


class _Running:
    """One exec: `pidfd` is its program's, -1 until known and when over."""

    def __init__(self, name: str, connection: Connection, container: Container) -> None:
        self.name = name
        self.container = container
        self.connection = connection
        self.pidfd = -1
        self.is_over = False

    def kill(self) -> None:
        send_signal(self.pidfd, signal.SIGKILL)


class Execs:
    """The orders `container.exec` and `exec.signal`.

    Args:
        find: returns a running container by pod and name; raises Refusal.
        used: told how much processor time a command took, in nanoseconds, that ran in a container and has ended.
    """

    def __init__(
        self, loop: Loop, find: Callable[[str, str], Container], used: Callable[[Container, int], None]
    ) -> None:
        self._loop = loop
        self._find = find
        self._used = used
        self._numbers = itertools.count(1)
        self._running: dict[str, _Running] = {}
        self.handlers: dict[str, Handler] = {"container.exec": self._exec, "exec.signal": self._signal}

    def _exec(self, call: Call) -> None:
        request = call.request
        has_terminal = orders.flag(request, "tty", False)
        fds = call.connection.take_fds(1 if has_terminal else 3)
        try:
            container = self._find(orders.text(request, "pod"), orders.text(request, "container"))
            own = container.order
            order = _order(request, own)
            if has_terminal:
                _size_terminal(fds[0], orders.whole(request, "columns", 80), orders.whole(request, "rows", 24))
            self._start(call, container, order, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _start(self, call: Call, container: Container, order: _Order, fds: list[int]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        init_fd, program_fd = container.init_fd, container.program_fd
        with theirs:
            keep = (*fds, theirs.fileno(), init_fd, program_fd)
            pid = fork(lambda: _help(order, fds, theirs, init_fd, program_fd), keep)
        running = _Running(f"exec-{next(self._numbers)}", call.connection, container)
        self._running[running.name] = running
        call.connection.on_close.append(running.kill)
        failure: list[Refusal] = []

        def hear() -> None:
            data, passed, _, _ = socket.recv_fds(ours, _MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            if not data:
                self._loop.forget(ours.fileno())
                ours.close()
                return
            message = json.loads(data)
            if "failed" in message:
                failure.append(Refusal(**message["failed"]))
                return
            if "used_ns" in message:
                self._used(container, message["used_ns"])
                return
            running.pidfd = passed[0]
            call.ok(exec=running.name)

        def ended(status: int) -> None:
            while ours.fileno() >= 0:
                hear()
            self._over(running, call, exit_code(status)[0], failure)

        self._loop.on_readable(ours.fileno(), hear)
        self._loop.on_exit(pid, ended)

    def container_gone(self, container: Container) -> None:
        """End what runs in a container that has ended; where there are namespaces the kernel has done so."""
        for running in self._running.values():
            if running.container is container:
                running.kill()

    def _over(self, running: _Running, call: Call, code: int, failure: list[Refusal]) -> None:
        del self._running[running.name]
        if running.kill in running.connection.on_close:
            running.connection.on_close.remove(running.kill)
        if running.pidfd < 0:
            gone = Refusal("Conflict", "the container ended before the command could start in it")
            call.fail(failure[0] if failure else gone)
            return
        os.close(running.pidfd)
        running.connection.send({"event": "exec.exited", "exec": running.name, "exit_code": code})

    def _signal(self, call: Call) -> None:
        number = orders.whole(call.request, "signal", least=1)
        running = self._running.get(orders.text(call.request, "exec"))
        call.ok(running=running is not None and send_signal(running.pidfd, number))


def _order(request: Message, own: Message) -> _Order:
    """Return what to run in a container that was started by the order `own`."""
    relocated = own.get("relocated", {})
    env = {
        **own["env"],
        **{name: plain.relocate(value, relocated) for name, value in orders.variables(request).items()},
    }
    argv = [plain.relocate(argument, relocated) for argument in orders.argv(request)]
    cwd = plain.relocate(orders.path(request, "cwd", own["cwd"]), relocated)
    return _Order(argv, env, cwd, own["limits"], own["is_plain"])


def _size_terminal(terminal: int, columns: int, rows: int) -> None:
    if not os.isatty(terminal):
        raise Refusal("Invalid", "tty asks for a terminal; the descriptor passed is none")
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _help(order: _Order, fds: list[int], report: socket.socket, init_fd: int, program_fd: int) -> int:
    """Enter the container, start the program, pass its pidfd on once it runs, tell what it used, return its exit code."""
    words, words_end = os.pipe2(os.O_CLOEXEC)
    try:
        if not order.is_plain:
            syscalls.setns(init_fd, _CONTAINER)
        pid = fork(lambda: _become(order, fds, program_fd, words_end), (*fds, program_fd, words_end))
    except OSError:
        return 126  # the container has just ended
    for fd in (*fds, words_end):
        os.close(fd)
    pidfd = os.pidfd_open(pid)
    with open(words, "rb") as file:
        said = file.read()
    if said:
        report.send(json.dumps({"failed": json.loads(said)}).encode())
    else:
        socket.send_fds(report, [b'{"started":true}'], [pidfd])
    _, status, usage = os.wait4(pid, 0)
    report.send(json.dumps({"used_ns": int((usage.ru_utime + usage.ru_stime) * 1e9)}).encode())
    return exit_code(status)[0]


def _become(order: _Order, fds: list[int], program_fd: int, words: int) -> int:
    try:
        process.use_streams(fds)
        process.limit(order.limits)
        if order.is_plain:
            syscalls.set_no_new_privileges()
        else:
            syscalls.setns(program_fd, syscalls.CLONE_NEWUSER)
            process.give_up_privilege()
        process.execute(order.argv, order.env, order.cwd)
    except Refusal as refusal:
        os.write(words, json.dumps(refusal.to_json()).encode())
    except OSError as error:
        message = f"the command could not be started: {error.strerror or error}"
        os.write(words, json.dumps({"code": "StartFailed", "message": message}).encode())
    return 127
