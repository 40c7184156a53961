"""A container's pid 1: builds the root, starts the program, writes its log, reaps, and reports how it ended.

It depends on nothing but its pod's pid 1 and its world: agents and servers may die meanwhile. It belongs to the
world's user namespace, where the program (in a nested one) has no power over it, and keeps no capability itself once
the program runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable

from headrace.sandbox import plain, process, syscalls
from headrace.sandbox.logs import LogWriter
from headrace.sandbox.loop import Loop, exit_code, fork
from headrace.sandbox.memory import FILE_SYSTEMS, Watch
from headrace.sandbox.root import enter_own_root
from headrace.sandbox.wire import Message, Refusal

_READ_BYTES = 65536
_LAST_WORDS_BYTES = 4096  # as much as kubelet takes of a termination message


def run(order: Message, report: socket.socket, host_proc: int) -> None:
    """Be pid 1 of a PID namespace until the program of `order` has ended; say so on `report` (SOCK_SEQPACKET).

    Messages: `{"started": {"pid", "wall_ns", "mono_ns"}}` with pidfds of this process and the program; or
    `{"failed": {"code", "message"}}`; then `{"exited": {"exit_code", "signal", …}}`.

    Args:
        host_proc: a /proc of the machine, to know pids as the machine does.
    """
    syscalls.set_name("container")
    try:
        log = LogWriter(**order["log"])
        if order["is_plain"]:
            syscalls.set_child_subreaper()
        else:
            syscalls.unshare(syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
            socket.sethostname(order["hostname"])
            enter_own_root(order, stage=order["stage"], fresh_proc=order["fresh_proc"])
        _Container(order, report, log).run(host_proc)
    except Refusal as refusal:
        _report_failure(report, refusal)
    except OSError as error:
        _report_failure(report, Refusal("StartFailed", f"the container could not be set up: {error.strerror or error}"))


def _report_failure(report: socket.socket, refusal: Refusal) -> None:
    report.send(json.dumps({"failed": refusal.to_json()}).encode())


class _Container:
    def __init__(self, order: Message, report: socket.socket, log: LogWriter) -> None:
        self._order = order
        self._report = report
        self._log = log
        self._loop = Loop()
        self._pipes: dict[int, str] = {}
        self._program = 0
        self._status: int | None = None
        self._out_of_memory = False

    def run(self, host_proc: int) -> None:
        stdout, stdout_end = os.pipe2(os.O_CLOEXEC)
        stderr, stderr_end = os.pipe2(os.O_CLOEXEC)
        words, words_end = os.pipe2(os.O_CLOEXEC)
        self._program = fork(
            lambda: _become_program(self._order, stdout_end, stderr_end, words_end, host_proc),
            (stdout_end, stderr_end, words_end, host_proc),
        )
        for fd in (stdout_end, stderr_end, words_end):
            os.close(fd)
        first_words = _read_all(words)
        started = {"wall_ns": time.time_ns(), "mono_ns": time.monotonic_ns()}
        answer = (
            json.loads(first_words)
            if first_words
            else {"code": "StartFailed", "message": "it was killed while it was started"}
        )
        if "pid" not in answer:
            raise Refusal(answer["code"], answer["message"])
        pidfds = [os.pidfd_open(os.getpid()), os.pidfd_open(self._program)]
        socket.send_fds(self._report, [json.dumps({"started": {"pid": answer["pid"], **started}}).encode()], pidfds)
        for fd in (*pidfds, host_proc):
            os.close(fd)
        if not self._order["is_plain"]:
            syscalls.drop_capabilities()
        self._serve({stdout: "stdout", stderr: "stderr"})

    def _serve(self, pipes: dict[int, str]) -> None:
        self._loop.on_exit(self._program, self._program_ended)
        for fd, stream in pipes.items():
            os.set_blocking(fd, False)
            self._pipes[fd] = stream
            self._loop.on_readable(fd, self._pump(fd, stream))
        if self._order["limits"].get("memory_bytes"):
            own_memory = () if self._order["is_plain"] else FILE_SYSTEMS
            limit_bytes = self._order["limits"]["memory_bytes"]
            Watch(self._loop, limit_bytes, self._members, self._over_limit, own_memory).look()
        if self._order["is_plain"]:  # no namespace ends us with our world
            self._loop.on_readable(self._report.fileno(), self._kill_rest)
        self._loop.run()

    def _pump(self, fd: int, stream: str) -> Callable[[], None]:
        def pump() -> None:
            data = os.read(fd, _READ_BYTES)
            if data:
                self._log.write(stream, data)
                return
            self._loop.forget(fd)
            os.close(fd)
            del self._pipes[fd]

        return pump

    def _over_limit(self) -> None:
        self._out_of_memory = True
        self._kill_rest()

    def _program_ended(self, status: int) -> None:
        """Its end is the container's: whatever it left running is killed, then the last output is written."""
        self._status = status
        self._wait_for_rest()

    def _members(self) -> list[int]:
        """Every process of the container but this one."""
        own = int(os.readlink("/proc/self"))
        if (
            self._order["is_plain"] or own != os.getpid()
        ):  # where no /proc of ours could be mounted it shows the machine's
            return plain.descendants(own)
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]

    def _kill_rest(self) -> None:
        """Kill every process of the container but this one."""
        if self._order["is_plain"]:
            plain.kill_beneath(os.getpid())
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)

    def _wait_for_rest(self) -> None:
        self._kill_rest()
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            self._finish()
            return
        self._loop.later(0.005, self._wait_for_rest)

    def _finish(self) -> None:
        for fd, stream in self._pipes.items():
            while data := _read_now(fd):
                self._log.write(stream, data)
        self._log.close()
        assert self._status is not None
        code, number = exit_code(self._status)
        report: Message = {"exit_code": code, "signal": number}
        if self._out_of_memory:
            report["reason"] = "OOMKilled"
        words = self._last_words()
        if words:
            report["termination_message"] = words
        with contextlib.suppress(OSError):  # the world may have been killed meanwhile
            self._report.send(json.dumps({"exited": report}).encode())
        self._loop.stop()

    def _last_words(self) -> str:
        path = self._order["termination_message_path"]
        if not path:
            return ""
        try:
            with open(path, "rb") as file:
                return file.read(_LAST_WORDS_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""  # the program may have hidden or removed it: then it had nothing to say


def _become_program(order: Message, stdout: int, stderr: int, words: int, host_proc: int) -> int:
    try:
        pid = int(os.readlink("self", dir_fd=host_proc))
        os.close(host_proc)
        process.use_streams((os.open("/dev/null", os.O_RDONLY), stdout, stderr))
        process.limit(order["limits"])
        process.raise_oom_score(order["oom_score_adj"])
        if order["is_plain"]:
            if not order["allow_privilege_escalation"]:
                syscalls.set_no_new_privileges()
        else:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            process.map_ids(order["uid"], order["gid"], outside_uid=0, outside_gid=0)
            process.give_up_privilege()
        os.write(words, json.dumps({"pid": pid}).encode())
        where = "on this machine" if order["is_plain"] else "in the container"
        process.execute(order["argv"], order["env"], order["cwd"], where=where)
    except Refusal as refusal:
        os.write(words, b"\n" + json.dumps(refusal.to_json()).encode())
    except OSError as error:
        message = f"the program could not be started: {error.strerror or error}"
        os.write(words, b"\n" + json.dumps({"code": "StartFailed", "message": message}).encode())
    return 127


def _read_all(fd: int) -> bytes:
    """Return the last line said on `fd` until exec (or death) closed its other end."""
    data = b""
    while chunk := os.read(fd, _READ_BYTES):
        data += chunk
    os.close(fd)
    return data.rpartition(b"\n")[2]


def _read_now(fd: int) -> bytes:
    try:
        return os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return b""  # the other end was passed to somebody outside
