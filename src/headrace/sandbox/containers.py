"""What a world knows about one pod and one container, and how it speaks with their pid 1s."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Mapping

from headrace.sandbox.accounting import Counter
from headrace.sandbox.journal import Entry
from headrace.sandbox.loop import Timer
from headrace.sandbox.server import Call
from headrace.sandbox.wire import Message, Refusal

_MESSAGE_BYTES = 65536


class Container:
    """One attempt of one container.

    Attributes:
        state: "starting", then "running", then "exited"; a start that failed is forgotten instead.
        started, exited: the instants and results as the journal has them.
        init_fd, program_fd: pidfds of its pid 1 and of its program, -1 unless running.
        cpu: what it used of the processor.
    """

    def __init__(self, order: Message, report: socket.socket) -> None:
        self.order = order
        self.pod, self.name, self.attempt = order["pod"], order["container"], order["attempt"]
        self.tag = f"{self.name}#{self.attempt}"
        self.state = "starting"
        self.pid = 0
        self.started: Entry = {}
        self.exited: Entry = {}
        self.failure: Refusal | None = None
        self.init_fd = self.program_fd = -1
        self.deadline: Timer | None = None
        self.cpu = Counter()
        self._last_report: Message = {}
        self._report: socket.socket | None = report
        self._waiting: list[Call] = []
        report.setblocking(False)

    @property
    def report_fd(self) -> int:
        """Descriptor on which its pid 1 speaks, -1 once that is over."""
        return -1 if self._report is None else self._report.fileno()

    def hear(self) -> Message | None:
        """Return the next thing its pid 1 said, None when there is nothing more for now."""
        if self._report is None:
            return None
        try:
            data, fds, _, _ = socket.recv_fds(self._report, _MESSAGE_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        if not data:
            return None
        message: Message = json.loads(data)
        if "started" in message:
            self.init_fd, self.program_fd = fds
            self.started = dict(message["started"])
            self.pid = self.started.pop("pid")
        elif "failed" in message:
            self.failure = self.failure or Refusal(**message["failed"])
        else:
            self._last_report = message["exited"]
        return message

    def hang_up(self) -> None:
        """Its pid 1 has said all it will say; idempotent."""
        if self._report is not None:
            self._report.close()
            self._report = None

    def run(self) -> None:
        """The program runs, and the journal says so."""
        self.state = "running"
        if self.deadline is not None:
            self.deadline.cancel()
        self.answer_waiting()

    def answer_start(self, call: Call) -> None:
        """Answer a request to start this very attempt: now if the outcome is known, else when it is."""
        if self.failure is not None:
            call.fail(self.failure)
        elif self.state == "starting":
            self._waiting.append(call)
        else:
            relocated = {"relocated": self.order["relocated"]} if "relocated" in self.order else {}
            call.ok(pid=self.pid, started=self.started, **relocated)

    def answer_waiting(self) -> None:
        """Answer all who wait for the outcome."""
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            self.answer_start(call)

    def signal(self, number: int) -> bool:
        """Send a signal to the program; False when it has ended."""
        return send_signal(self.program_fd, number)

    def kill(self) -> None:
        """Kill its pid 1, and so every process in it."""
        send_signal(self.init_fd, signal.SIGKILL)

    def end(self, reason: str) -> Entry | None:
        """Take note that no process of it is left; return what the journal must say about that, if anything.

        Args:
            reason: why, where its pid 1 could not report because it was killed.
        """
        self.close()
        if self.state == "starting":
            self.failure = self.failure or Refusal(
                "StartFailed", f"container {self.name} was killed while it was set up"
            )
            return None
        if self.state == "exited":
            return None
        self.state = "exited"
        killed = {"exit_code": 128 + signal.SIGKILL, "signal": int(signal.SIGKILL), "reason": reason}
        self.exited = {"type": "container-exited", **self.identity(), **(self._last_report or killed)}
        return self.exited

    def close(self) -> None:
        """Let go of every descriptor; idempotent."""
        if self.deadline is not None:
            self.deadline.cancel()
        self.hang_up()
        for fd in {self.init_fd, self.program_fd} - {-1}:
            os.close(fd)
        self.init_fd = self.program_fd = -1

    def identity(self) -> Entry:
        return {"pod": self.pod, "container": self.name, "attempt": self.attempt}

    def to_json(self) -> Message:
        shown: Message = {"container": self.name, "attempt": self.attempt, "state": self.state, "pid": self.pid}
        if self.started:
            shown["started"] = self.started
        if self.exited:
            shown["finished"] = {key: self.exited[key] for key in ("wall_ns", "mono_ns")}
            shown |= {key: self.exited[key] for key in ("exit_code", "signal")}
            shown |= {key: self.exited[key] for key in ("reason", "termination_message") if key in self.exited}
            shown["oom"] = self.exited.get("reason") == "OOMKilled"
        return shown


class Pod:
    """One pod: its pid 1, the socket to it, and its containers by name (of each the latest attempt)."""

    def __init__(self, name: str, hostname: str, labels: Mapping[str, str], pid: int, speaker: socket.socket) -> None:
        self.name = name
        self.hostname = hostname
        self.labels = dict(labels)
        self.pid = pid
        self.containers: dict[str, Container] = {}
        self.removals: list[Call] = []
        self.ends_when_idle = False
        self.cpu = Counter()
        self._speaker = speaker
        speaker.setblocking(False)

    @property
    def fd(self) -> int:
        """Descriptor on which its pid 1 speaks."""
        return self._speaker.fileno()

    def say(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Give its pid 1 an order; raises OSError."""
        socket.send_fds(self._speaker, [json.dumps(message).encode()], fds, socket.MSG_NOSIGNAL)

    def hear(self) -> Message | None:
        """Return the next thing its pid 1 said, None when there is nothing more for now."""
        try:
            data = self._speaker.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return None
        return json.loads(data) if data else None

    @property
    def is_idle(self) -> bool:
        """Whether none of its containers runs or starts."""
        return all(container.state == "exited" for container in self.containers.values())

    def close(self) -> None:
        self._speaker.close()

    def to_json(self) -> Message:
        return {
            "pod": self.name,
            "labels": self.labels,
            "containers": [container.to_json() for container in self.containers.values()],
        }


def send_signal(pidfd: int, number: int) -> bool:
    """Send a signal to the process behind `pidfd`; False when it has ended or the descriptor is -1."""
    if pidfd < 0:
        return False
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
        return True
    return False
