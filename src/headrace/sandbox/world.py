"""A world: pid 1 of a user, mount and PID namespace set that runs one node's pods and takes orders on a socket.

`python -m headrace.sandbox.world --name own --socket S --directory D [--mask PATH]…`

The process started is the *outer* one: it enters the namespaces before any thread exists, forks the world as their
pid 1, passes SIGTERM on and ends with it. Either one killed takes everything inside along: the kernel kills a PID
namespace with its pid 1, and the world ends when the outer process's end of a pipe closes. (PR_SET_PDEATHSIG would
be simpler and is wrong: it fires when the thread that forked ends, and is lost on exec of anything setuid.)
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence

from headrace.sandbox import plain, probe, process, syscalls, unprivileged, wire
from headrace.sandbox.exec import Execs
from headrace.sandbox.journal import Journal, Stamp, boot_id, last_proof, unfinished
from headrace.sandbox.loop import Loop, exit_code, fork
from headrace.sandbox.mounts import Mounts
from headrace.sandbox.pods import Pods
from headrace.sandbox.server import Call, Peer, Server
from headrace.sandbox.services import Services
from headrace.sandbox.starting import Setting

_STAMP_EVERY_S = 1.0
_LOCK_WITHIN_S = 10.0


class Settings:
    """What the command line said."""

    def __init__(self, arguments: Sequence[str]) -> None:
        values: dict[str, list[str]] = {"--name": [], "--socket": [], "--directory": [], "--mask": [], "--reach": []}
        if len(arguments) % 2 or any(name not in values for name in arguments[::2]):
            raise SystemExit("usage: world --name NAME --socket PATH --directory PATH [--mask PATH]… [--reach PATH]…")
        for name, value in zip(arguments[::2], arguments[1::2], strict=True):
            values[name].append(value)
        self.name = (values["--name"] or ["world"])[-1]
        self.directory = os.path.abspath((values["--directory"] or ["."])[-1])
        self.socket = os.path.abspath((values["--socket"] or [os.path.join(self.directory, "world.sock")])[-1])
        self.masks = [os.path.abspath(path) for path in values["--mask"]]
        self.reach = [os.path.abspath(path) for path in values["--reach"]]
        self.stage = os.path.join(self.directory, "stage")


class World:
    """The orders that concern the world itself; those about pods are in `pods.py`."""

    def __init__(self, settings: Settings, features: dict[str, str], host_proc: int) -> None:
        self._settings = settings
        self._features = features
        self._loop = Loop()
        self._journal = Journal(settings.directory)
        self._stamp = Stamp(settings.directory)
        self._started_wall_ns = time.time_ns()
        self._host_pid = int(os.readlink("self", dir_fd=host_proc))
        setting = Setting(
            stage=settings.stage,
            masks=[settings.directory, os.path.dirname(settings.socket), *settings.masks],
            fresh_proc=not features["proc"],
            is_plain=bool(features["userns"]),
            host_proc=host_proc,
        )
        self._pods = Pods(self._loop, self._journal, setting)
        self._services = Services(self._loop, self._journal)
        self._mounts = Mounts(self._loop, why_not=features["userns"])
        self._execs = Execs(self._loop, self._pods.running, self._pods.used_elsewhere)
        self._pods.on_container_gone.append(self._execs.container_gone)
        listener = wire.listen(settings.socket)
        handlers = {
            "hello": self._hello,
            "state": self._state,
            "follow": self._follow,
            "journal.trim": self._trim,
            "shutdown": self._shutdown,
            **self._pods.handlers,
            **self._services.handlers,
            **self._mounts.handlers,
            **self._execs.handlers,
        }
        self._server = Server(self._loop, listener, handlers, self._refuse_peer)

    def run(self, outer: int) -> None:
        """Serve until told to stop, or until `outer`, a pipe whose other end the outer process holds, closes."""
        syscalls.set_name("world")
        self._end_what_was_lost()
        self._journal.append({"type": "world-started", "world": self._settings.name, "pid": self._host_pid})
        self._tick()
        self._loop.on_readable(outer, self._loop.stop)
        self._loop.on_signal(signal.SIGTERM, self._loop.stop)
        self._loop.run()
        self._pods.kill_all()
        if self._features["userns"]:
            plain.end_strays(())
        self._stamp.write()
        os.unlink(self._settings.socket)

    def _end_what_was_lost(self) -> None:
        """Journal the end of what an earlier world ran and never saw end: it was killed, and all of it with it."""
        containers, pods = unfinished(self._journal.entries)
        if not containers and not pods:
            return
        proven = last_proof(self._journal.entries, self._stamp.read())
        lost = {"exit_code": 137, "signal": int(signal.SIGKILL), "reason": "WorldLost", **proven}
        entries = [
            {
                "type": "container-exited",
                "pod": entry["pod"],
                "container": entry["container"],
                "attempt": entry["attempt"],
                **lost,
            }
            for entry in containers
        ]
        entries += [{"type": "pod-removed", "pod": entry["pod"], "reason": "WorldLost", **proven} for entry in pods]
        self._journal.append(*entries)

    def _tick(self) -> None:
        self._stamp.write()
        self._journal.write_late()
        self._loop.later(_STAMP_EVERY_S, self._tick)

    def _refuse_peer(self, peer: Peer) -> str:
        """The socket's mode lets in its owner and the machine's root only; here those are kept out who live inside us.

        A container's program has our uid for the machine. But its pid is known in our PID namespace, and that of
        whoever may give orders is not.
        """
        if self._features["userns"]:
            return "" if peer.uid in (0, os.geteuid()) else "only the user who started the world may talk to it"
        if peer.pid:
            return "a world takes no orders from the processes it runs"
        return ""

    def _hello(self, call: Call) -> None:
        call.ok(
            world=self._settings.name,
            pid=self._host_pid,
            boot_id=boot_id(),
            started_wall_ns=self._started_wall_ns,
            features={name: not why for name, why in self._features.items()},
            reasons={name: why for name, why in self._features.items() if why},
            journal_seq=self._journal.seq,
        )

    def _follow(self, call: Call) -> None:
        after = call.request.get("after", 0)
        if not isinstance(after, int):
            raise wire.Refusal("Invalid", f"after must be the number of a journal entry, not {after!r}")
        call.ok(journal_seq=self._journal.seq)

        def tell(entries: Sequence[wire.Message]) -> None:
            for entry in entries:
                call.connection.send({"event": "journal", **entry})

        tell(self._journal.after(after))
        self._journal.listeners.append(tell)
        call.connection.on_close.append(lambda: self._journal.listeners.remove(tell))

    def _trim(self, call: Call) -> None:
        upto = call.request.get("upto")
        if not isinstance(upto, int):
            raise wire.Refusal("Invalid", f"upto must be the number of a journal entry, not {upto!r}")
        self._journal.trim(upto)
        call.ok()

    def _state(self, call: Call) -> None:
        call.ok(pods=self._pods.to_json(), services=self._services.to_json())

    def _shutdown(self, call: Call) -> None:
        self._pods.kill_all()
        call.ok()
        self._loop.later(0, self._loop.stop)


def main(arguments: Sequence[str]) -> int:
    """Start a world and stay until it has ended; returns its exit code."""
    settings = Settings(arguments)
    os.umask(0o022)
    unprivileged.become(
        reach=[*unprivileged.python_paths(), *settings.reach],
        own=[settings.directory, os.path.dirname(settings.socket)],
    )
    for directory in (settings.directory, os.path.dirname(settings.socket), settings.stage):
        os.makedirs(directory, mode=0o700, exist_ok=True)
    lock = _lock(settings.directory)
    features = probe.features()
    outer_in, outer_out = os.pipe2(os.O_CLOEXEC)
    host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    uid, gid = os.geteuid(), os.getegid()
    if not features["userns"]:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
        process.map_ids(0, 0, outside_uid=uid, outside_gid=gid)
    gc.freeze()
    child = fork(lambda: _be_world(settings, features, host_proc, outer_in), (lock, host_proc, outer_in))
    os.close(outer_in)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: os.kill(child, signal.SIGTERM))
    code, _ = exit_code(os.waitpid(child, 0)[1])
    os.close(outer_out)
    return code


def _be_world(settings: Settings, features: dict[str, str], host_proc: int, outer: int) -> int:
    if features["userns"]:
        syscalls.set_child_subreaper()
    else:
        syscalls.mount("none", "/", flags=syscalls.MS_PRIVATE | syscalls.MS_REC)
        syscalls.mount("none", "/", flags=syscalls.MS_SHARED | syscalls.MS_REC)
    if not features["proc"]:
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        syscalls.mount("proc", "/proc", "proc", flags)
    World(settings, features, host_proc).run(outer)
    return 0


def _lock(directory: str) -> int:
    """Return the lock of this world's directory; a predecessor that was killed may still be ending for an instant."""
    fd = os.open(os.path.join(directory, "world.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SystemExit(
                    f"a world already runs in {directory}: stop it first, or use another directory"
                ) from None
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
