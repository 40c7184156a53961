"""One process of a supervisor's table: started, watched until ready, restarted with back-off, adopted, stopped.

It is recorded on disk as pid, start time and boot id before it may run, so that a supervisor that was killed finds its
children again and never takes a stranger with a recycled pid for one of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from headrace.sandbox import wire
from headrace.sandbox.journal import boot_id
from headrace.sandbox.loop import Loop, Timer, exit_code, fork
from headrace.sandbox.process import use_streams
from headrace.sandbox.wire import Message

_LOOK_EVERY_S = 0.01
_FIRST_DELAY_S, _LAST_DELAY_S = 0.1, 10.0
_PROVEN_AFTER_S = 30.0  # who ran this long starts again at once
_LOG_BYTES = 10 * 1024 * 1024


class Supervised:
    """Keeps one process running from `start` until `stop`.

    Args:
        entry: one item of the table's `processes` (see `table.py`).
        directory: where its record is kept.
        changed: called after every change of state.

    Attributes:
        state: "waiting" (for others to be ready), "starting", "ready", "backing-off", "stopping", "stopped".
    """

    def __init__(self, loop: Loop, entry: Message, directory: str, changed: Callable[[], None]) -> None:
        self.entry = entry
        self.name: str = entry["name"]
        self.state = "waiting"
        self.pid = 0
        self.restarts = 0
        self.last_exit: Message | None = None
        self._loop = loop
        self._record = os.path.join(directory, f"{self.name}.json")
        self._changed = changed
        self._delay_s = _FIRST_DELAY_S
        self._since_s = 0.0
        self._since_wall_ns = 0
        self._pidfd = -1
        self._timer: Timer | None = None

    def adopt(self) -> bool:
        """Take over the process that an earlier supervisor started, if it lives and is the one the table wants.

        One that runs another command than the table says is ended first; that may take until its deadline.
        """
        record = _read_record(self._record)
        if record is None or not is_alive(record):
            return False
        self.pid = record["pid"]
        self._pidfd = os.pidfd_open(self.pid)
        if record["argv"] != self.entry["argv"]:
            self._end_now()
            return False
        self._loop.on_readable(self._pidfd, self._adopted_ended)
        self._begin_watch()
        return True

    def start(self) -> None:
        """Start the process; it may run only once its record is on disk."""
        ready_file = (self.entry["ready"] or {}).get("file")
        if ready_file and os.path.exists(ready_file):
            os.unlink(ready_file)
        go, gate = os.pipe2(os.O_CLOEXEC)
        self.pid = fork(lambda: _become(self.entry, go), (go,))
        os.close(go)
        record = {
            "pid": self.pid,
            "start_ticks": start_ticks(self.pid),
            "boot_id": boot_id(),
            "argv": self.entry["argv"],
        }
        with open(f"{self._record}.new", "w") as file:
            json.dump(record, file)
        os.replace(f"{self._record}.new", self._record)
        os.write(gate, b"g")
        os.close(gate)
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.on_exit(self.pid, self._ended)
        self._begin_watch()

    def stop(self) -> None:
        """Ask it to end; kill it at its deadline. Idempotent."""
        if self.state in ("stopping", "stopped"):
            return
        self._cancel_timer()
        if not self.pid:
            self._enter("stopped")
            return
        self._enter("stopping")
        signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        self._timer = self._loop.later(self.entry["stop_within_s"], self._kill)

    def restart(self) -> None:
        """End it and start it again, or start it at once where it waits for its next try."""
        if self.state == "backing-off":
            self._cancel_timer()
            self.start()
        elif self.pid and self.state != "stopping":
            self._cancel_timer()
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
            self._timer = self._loop.later(self.entry["stop_within_s"], self._kill)

    def to_json(self) -> Message:
        return {
            "name": self.name,
            "state": self.state,
            "pid": self.pid,
            "restarts": self.restarts,
            "since_wall_ns": self._since_wall_ns,
            "last_exit": self.last_exit,
            "log": self.entry["log"],
        }

    def _enter(self, state: str) -> None:
        self.state = state
        self._since_wall_ns = time.time_ns()
        self._changed()

    def _begin_watch(self) -> None:
        self._since_s = time.monotonic()
        self._enter("starting")
        self._look()

    def _look(self) -> None:
        if _is_ready(self.entry["ready"]):
            self._enter("ready")
        elif time.monotonic() - self._since_s > self.entry["ready_within_s"]:
            self.last_exit = {"reason": f"not ready within {self.entry['ready_within_s']:g} s"}
            self._kill()  # and its end leads to the next try
        else:
            self._timer = self._loop.later(_LOOK_EVERY_S, self._look)

    def _kill(self) -> None:
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _end_now(self) -> None:
        """End a process that is not our child, and wait for that."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(self._pidfd, number)
            deadline = time.monotonic() + float(self.entry["stop_within_s"])
            while is_alive(_read_record(self._record) or {}) and time.monotonic() < deadline:
                time.sleep(_LOOK_EVERY_S)
        os.close(self._pidfd)
        self._pidfd, self.pid = -1, 0

    def _adopted_ended(self) -> None:
        self._loop.forget(self._pidfd)
        self._gone({})  # its status went to whoever adopted the orphan

    def _ended(self, status: int) -> None:
        code, number = exit_code(status)
        self._gone({"exit_code": code, "signal": number})

    def _gone(self, how: Message) -> None:
        self._cancel_timer()
        os.close(self._pidfd)
        self._pidfd, self.pid = -1, 0
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._record)
        reason = (self.last_exit or {}).get("reason") if self.state == "starting" else None
        self.last_exit = {**how, "wall_ns": time.time_ns(), **({"reason": reason} if reason else {})}
        if self.state == "stopping":
            self._enter("stopped")
            return
        if time.monotonic() - self._since_s > _PROVEN_AFTER_S:
            self._delay_s = _FIRST_DELAY_S
        self.restarts += 1
        self._timer = self._loop.later(self._delay_s, self.start)
        self._delay_s = min(_LAST_DELAY_S, self._delay_s * 2)
        self._enter("backing-off")

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; raises FileNotFoundError or ProcessLookupError.

    Source: proc(5), field 22 of /proc/pid/stat; the command, in parentheses, may hold anything.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def is_alive(record: Message) -> bool:
    """Tell whether the very process of `record` still runs."""
    try:
        with open(f"/proc/{record['pid']}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
        same = start_ticks(record["pid"]) == record["start_ticks"] and boot_id() == record["boot_id"]
    except (OSError, KeyError):
        return False
    return same and state not in (b"Z", b"X")


def is_left(directory: str, name: str) -> bool:
    """Tell whether the process `name` that some supervisor of `directory` started still runs."""
    return is_alive(_read_record(os.path.join(directory, f"{name}.json")) or {})


def _read_record(path: str) -> Message | None:
    try:
        with open(path) as file:
            record: Any = json.load(file)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _is_ready(ready: Message | None) -> bool:
    if not ready:
        return True
    if "file" in ready:
        return os.path.exists(ready["file"])
    try:
        wire.connect(ready["socket"], timeout_s=1.0).close()
    except OSError:
        return False
    return True


def _become(entry: Message, go: int) -> int:
    if os.read(go, 1) != b"g":
        return 0  # the supervisor died before it could note this process
    os.makedirs(os.path.dirname(entry["log"]), exist_ok=True)
    if os.path.exists(entry["log"]) and os.path.getsize(entry["log"]) > _LOG_BYTES:
        os.replace(entry["log"], f"{entry['log']}.1")
    log = os.open(entry["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    use_streams((os.open(os.devnull, os.O_RDONLY), log, log))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(entry["argv"][0], entry["argv"], {**os.environ, **entry["env"]})
    except OSError as error:
        os.write(2, f"{entry['name']}: {entry['argv'][0]} cannot be started: {error.strerror}\n".encode())
    return 127
