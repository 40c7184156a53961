"""For tests: real worlds in temporary directories, and proofs that nothing of them is left.

with running_world(tmp_path) as world:
    world.client.call("pod.create", pod="p")
    assert world.run("p", ["echo", "hello"]).stdout == "hello\\n"
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from headrace.sandbox import process, supervised, syscalls, unprivileged
from headrace.sandbox.client import Client
from headrace.sandbox.journal import boot_id
from headrace.sandbox.wire import Message

_WITHIN_S = 20.0


class Ended(NamedTuple):
    """How a container ended, and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str
    entry: Message


class RunningWorld:
    """A world started for a test, with one client connected."""

    def __init__(self, directory: str, process: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        self.socket = os.path.join(directory, "world.sock")
        self.process = process
        self.client = Client(self.socket)

    def follow(self, after: int = 0) -> Client:
        """Return a new client that follows the journal."""
        follower = Client(self.socket)
        follower.call("follow", after=after)
        return follower

    def journal(self) -> list[Message]:
        """Return the journal's entries as they are on disk."""
        with open(os.path.join(self.directory, "journal.jsonl")) as file:
            return [json.loads(line) for line in file]

    def log_path(self, pod: str, container: str) -> str:
        return os.path.join(self.directory, "logs", f"{pod}-{container}.log")

    def start(self, pod: str, container: str, argv: list[str], **order: Any) -> Message:
        """Start a container with a log of its own; return the world's answer."""
        log = {"path": self.log_path(pod, container)}
        return self.client.call("container.start", pod=pod, container=container, argv=argv, **{"log": log, **order})

    def run(self, pod: str, argv: list[str], *, container: str = "main", **order: Any) -> Ended:
        """Start a container and return once it has ended."""
        after = self.client.call("hello")["journal_seq"]
        self.start(pod, container, argv, **order)
        follower = self.follow(after)
        entry = next(
            event
            for event in follower.events(_WITHIN_S)
            if event["type"] == "container-exited" and (event["pod"], event["container"]) == (pod, container)
        )
        follower.close()
        lines = read_log(self.log_path(pod, container))
        text = {stream: "".join(line for of, line in lines if of == stream) for stream in ("stdout", "stderr")}
        return Ended(entry["exit_code"], text["stdout"], text["stderr"], entry)


def read_log(path: str) -> list[tuple[str, str]]:
    """Return `(stream, text)` of a CRI log's records; whole lines keep their newline."""
    with open(path) as file:
        records = [line.rstrip("\n").split(" ", 3) for line in file]
    return [(stream, text + ("\n" if tag == "F" else "")) for _, stream, tag, text in records]


@functools.cache
def missing_features() -> dict[str, str]:
    """Return the features that a world on this machine lacks, each with the sentence why."""
    command = [
        sys.executable,
        "-m",
        "headrace.sandbox.unprivileged",
        "--",
        sys.executable,
        "-m",
        "headrace.sandbox.probe",
    ]
    if os.geteuid() != 0:
        command = command[4:]
    found = subprocess.run(command, check=True, capture_output=True, timeout=_WITHIN_S)
    return {name: why for name, why in json.loads(found.stdout).items() if why}


@contextlib.contextmanager
def running_world(
    directory: str | os.PathLike[str], *arguments: str, main: str = "", without_namespaces: bool = False
) -> Iterator[RunningWorld]:
    """Start a world in `directory`, as nobody where the caller is root; end it, and all in it, at the end.

    Args:
        arguments: further ones for the command line, such as `--reach`, path.
        main: Python code to run instead of the module, with the same arguments.
        without_namespaces: forbid it to make user namespaces, as some machines do.
    """
    place = os.path.join(os.path.abspath(directory), "world")
    process = start_world(place, *arguments, main=main, without_namespaces=without_namespaces)
    world = None
    try:
        world = RunningWorld(place, process)
        yield world
    finally:
        if world is not None:
            world.client.close()
        process.terminate()
        process.wait(_WITHIN_S)


def start_world(
    place: str, *arguments: str, main: str = "", without_namespaces: bool = False
) -> subprocess.Popen[bytes]:
    """Start the process of a world and return once its socket answers."""
    socket = os.path.join(place, "world.sock")
    program = ["-c", main] if main else ["-m", "headrace.sandbox.world"]
    command = [sys.executable, *program, "--name", "test", "--directory", place, "--socket", socket]
    if without_namespaces:
        command = [sys.executable, "-m", "headrace.sandbox.testing", place, *command]
    process = subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL)

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the world ended with {process.returncode}")
        try:
            with Client(socket) as client:
                return bool(client.call("hello")["ok"])
        except (OSError, ConnectionError):
            return False

    wait_until(answers)
    return process


def wait_until(condition: Callable[[], bool], *, within_s: float = _WITHIN_S) -> None:
    """Look until `condition` holds; raises AssertionError when it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def family(pid: int) -> list[Message]:
    """Return a record (see `supervised.is_alive`) of process `pid` and of every process beneath it."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            parents.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(int(name))
    found, todo = [], [pid]
    while todo:
        member = todo.pop()
        todo += parents.get(member, [])
        with contextlib.suppress(OSError):
            found.append({"pid": member, "start_ticks": supervised.start_ticks(member), "boot_id": boot_id()})
    return found


def mounts_of_machine(path: str) -> list[str]:
    """Return the lines of this process's mountinfo that speak of `path`."""
    with open("/proc/self/mountinfo") as file:
        return [line for line in file if path in line]


def forbid_user_namespaces() -> None:
    """Be in a user namespace that allows no further one, without any capability: what a strict container gives."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    process.map_ids(uid, gid, outside_uid=uid, outside_gid=gid)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    syscalls.set_no_new_privileges()
    syscalls.drop_capabilities()


if __name__ == "__main__":
    unprivileged.become(reach=unprivileged.python_paths(), own=[sys.argv[1]])
    forbid_user_namespaces()
    os.execvp(sys.argv[2], sys.argv[2:])
