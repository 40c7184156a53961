"""Starts the processes of a table and keeps them running; a daemon of one thread and the standard library.

    python -m headrace.sandbox.supervisor --table FILE [--foreground | --down]

It prints one JSON line when it is in charge, `{"pid": …, "already": false}`, and goes to the background. A second one
prints the pid of the first with `"already": true`. What it started outlives its own death: the next one adopts it.
SIGTERM, the op `stop` and `--down` end everything. Control socket (frames as in `wire.py`):

    status {}            → {pid, ready: bool, processes: [{name, state, pid, restarts, since_wall_ns, last_exit, log}]}
    wait {timeout_s: 30} → {} once all are ready; Refusal `Timeout` names those that are not
    restart {name}       → {}; the process is ended and started again
    stop {keep: []}      → {} once all have ended but those named, which go on; then the supervisor ends too
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Sequence

from headrace.sandbox import orders, table, unprivileged, wire
from headrace.sandbox.client import Client
from headrace.sandbox.daemon import daemonise, last_word
from headrace.sandbox.loop import Loop
from headrace.sandbox.server import Call, Peer, Server
from headrace.sandbox.supervised import Supervised
from headrace.sandbox.wire import Message, Refusal

_DOWN_WITHIN_S = 60.0


class Supervisor:
    """The running supervisor. Whoever makes one holds the lock."""

    def __init__(self, wanted: Message) -> None:
        self._socket_path: str = wanted["socket"]
        self._loop = Loop()
        self._waits: list[Call] = []
        self._stops: list[Call] = []
        self._is_adopting = True
        self._is_stopping = False
        self._kept: set[str] = set()
        self._processes = {
            entry["name"]: Supervised(self._loop, entry, wanted["directory"], self._changed)
            for entry in wanted["processes"]
        }
        handlers = {"status": self._status, "wait": self._wait, "restart": self._restart, "stop": self._stop}
        self._server = Server(self._loop, wire.listen(self._socket_path), handlers, _refuse_peer)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._begin_stop)
        self._loop.on_signal(signal.SIGHUP, lambda: None)

    def run(self, *, only_stop: bool = False) -> None:
        """Adopt what lives, start the rest, and stay until all have been stopped."""
        for process in self._processes.values():
            process.adopt()
        self._is_adopting, self._is_stopping = False, only_stop
        self._loop.later(0, self._changed)
        self._loop.run()
        os.unlink(self._socket_path)

    def _changed(self) -> None:
        """Somebody's state changed: do what that makes possible."""
        if self._is_adopting:
            return
        if self._is_stopping:
            self._stop_next()
            return
        for process in self._processes.values():
            if process.state == "waiting" and self._may_start(process.entry):
                process.start()
        if not self._not_ready():
            waits, self._waits = self._waits, []
            for call in waits:
                call.ok()

    def _may_start(self, entry: Message) -> bool:
        return all(self._processes[name].state == "ready" for name in entry["after"]) and all(
            self._processes[name].state in ("starting", "ready") for name in entry["beside"]
        )

    def _not_ready(self) -> list[Supervised]:
        return [process for process in self._processes.values() if process.state != "ready"]

    def _begin_stop(self) -> None:
        self._is_stopping = True
        self._stop_next()

    def _stop_next(self) -> None:
        """Stop those that nobody who still runs came after."""
        needed = {
            name
            for process in self._processes.values()
            if not self._has_stopped(process)
            for name in (*process.entry["after"], *process.entry["beside"])
        }
        for process in self._processes.values():
            if process.name not in needed and process.name not in self._kept:
                process.stop()
        if all(self._has_stopped(process) for process in self._processes.values()):
            stops, self._stops = self._stops, []
            for call in stops:
                call.ok()
            self._loop.stop()

    def _has_stopped(self, process: Supervised) -> bool:
        return process.state == "stopped" or process.name in self._kept

    def _status(self, call: Call) -> None:
        processes = [process.to_json() for process in self._processes.values()]
        call.ok(pid=os.getpid(), ready=not self._not_ready(), processes=processes)

    def _wait(self, call: Call) -> None:
        if not self._not_ready():
            call.ok()
            return
        self._waits.append(call)
        self._loop.later(orders.number(call.request, "timeout_s", 30), lambda: self._waited_enough(call))

    def _waited_enough(self, call: Call) -> None:
        if call in self._waits:
            self._waits.remove(call)
            late = "; ".join(
                f"{process.name} is {process.state}, see {process.entry['log']}" for process in self._not_ready()
            )
            call.fail(Refusal("Timeout", f"not everything is ready: {late}"))

    def _restart(self, call: Call) -> None:
        process = self._processes.get(orders.text(call.request, "name"))
        if process is None:
            raise Refusal(
                "NotFound", f"there is no process {call.request['name']}; there are {', '.join(self._processes)}"
            )
        process.restart()
        call.ok()

    def _stop(self, call: Call) -> None:
        if not self._is_stopping:
            self._kept = set(orders.strings(call.request, "keep"))
        self._stops.append(call)
        self._begin_stop()


def _refuse_peer(peer: Peer) -> str:
    return "" if peer.uid in (0, os.geteuid()) else "only the user who started the supervisor may talk to it"


def main(arguments: Sequence[str]) -> int:
    """Be called; see the top of this file."""
    options = list(arguments)
    if len(options) < 2 or options[0] != "--table" or options[2:] not in ([], ["--foreground"], ["--down"]):
        raise SystemExit("usage: supervisor --table FILE [--foreground | --down]")
    try:
        wanted = table.read(options[1])
    except Refusal as refusal:
        raise SystemExit(refusal.message) from None
    unprivileged.become(
        reach=[*unprivileged.python_paths(), *wanted["unprivileged"]["reach"]], own=wanted["unprivileged"]["own"]
    )
    for place in (wanted["directory"], os.path.dirname(wanted["socket"]), os.path.dirname(wanted["lock"])):
        os.makedirs(place, mode=0o700, exist_ok=True)
    if options[2:] == ["--down"]:
        return _down(wanted)
    lock, holder = _lock(wanted["lock"])
    if lock is None:
        last_word({"pid": holder, "already": True})
        return 0
    if options[2:] == ["--foreground"]:
        _take_charge(wanted, lock)
        return 0
    return daemonise(lambda: _take_charge(wanted, lock), _log_path(wanted))


def _lock(path: str) -> tuple[int | None, int]:
    """Return the lock, or None and the pid of the process that holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).strip()
        os.close(fd)
        return None, int(holder or 0)
    return fd, 0


def _take_charge(wanted: Message, lock: int, *, only_stop: bool = False) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    supervisor = Supervisor(wanted)
    if not only_stop:
        last_word({"pid": os.getpid(), "already": False})
    supervisor.run(only_stop=only_stop)


def _log_path(wanted: Message) -> str:
    return os.path.join(wanted["directory"], "supervisor.log")


def _down(wanted: Message) -> int:
    """End everything: by the supervisor that runs, or by being it where it was killed."""
    deadline = time.monotonic() + _DOWN_WITHIN_S
    while time.monotonic() < deadline:
        lock, _ = _lock(wanted["lock"])
        if lock is not None:
            _take_charge(wanted, lock, only_stop=True)
            return 0
        try:
            with Client(wanted["socket"], timeout_s=_DOWN_WITHIN_S) as client:
                client.call("stop")
        except OSError:
            time.sleep(0.02)  # it has just begun or is just ending: the lock will tell
    raise SystemExit(f"not everything ended within {_DOWN_WITHIN_S:.0f} s; see {_log_path(wanted)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
