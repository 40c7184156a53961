"""Starting one container: the order goes to its pod's pid 1, and what the container's own pid 1 says comes back."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from headrace.sandbox import plain
from headrace.sandbox.containers import Container, Pod
from headrace.sandbox.journal import Journal
from headrace.sandbox.loop import Loop
from headrace.sandbox.server import Call
from headrace.sandbox.wire import Message, Refusal

_START_WITHIN_S = 60.0


class Setting(NamedTuple):
    """What is the same for all containers of a world.

    Attributes:
        stage: a directory that containers' pid 1s may mount on.
        masks: directories hidden in every container, whatever its order says.
        fresh_proc: whether a container can have a /proc of its own.
        is_plain: whether to do without namespaces, see `plain.py`.
        host_proc: descriptor of the machine's /proc.
    """

    stage: str
    masks: Sequence[str]
    fresh_proc: bool
    is_plain: bool
    host_proc: int

    def scratch(self, pod: str) -> str:
        """Return the directory of what a pod without namespaces has instead of memory."""
        return os.path.join(self.stage, "plain", pod)


class Starts:
    """Starts containers and journals that they run."""

    def __init__(self, loop: Loop, journal: Journal, setting: Setting) -> None:
        self._loop = loop
        self._journal = journal
        self._setting = setting

    def start(self, call: Call, home: Pod, order: Message) -> None:
        """Start a container in `home` and answer `call` once its program runs, or why it does not; raises Refusal.

        Idempotent: the same attempt again gets the answer of the first time, unless that start failed.
        """
        known = home.containers.get(order["container"])
        if known is not None:
            if known.attempt == order["attempt"]:
                known.answer_start(call)
                return
            if known.state != "exited":
                raise Refusal(
                    "Conflict", f"attempt {known.attempt} of container {known.name} has not ended; stop it first"
                )
        if home.removals:
            raise Refusal("Conflict", f"pod {home.name} is being removed; nothing starts in it any more")
        order = {
            **order,
            "hostname": home.hostname,
            "masks": [*order["masks"], *self._setting.masks],
            "stage": self._setting.stage,
            "fresh_proc": self._setting.fresh_proc,
            "is_plain": self._setting.is_plain,
        }
        if self._setting.is_plain:
            order = plain.settle(order, os.path.join(self._setting.scratch(home.name), order["container"]))
        container = self._send_order(home, order)
        home.containers[container.name] = container
        container.answer_start(call)
        self._loop.on_readable(container.report_fd, lambda: self._hear(container))
        container.deadline = self._loop.later(_START_WITHIN_S, lambda: self._too_slow(home, container))

    def _send_order(self, home: Pod, order: Message) -> Container:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        text = os.memfd_create("order")
        try:
            container = Container(order, ours)
            with open(text, "wb", closefd=False) as file:
                file.write(json.dumps(order).encode())
            os.lseek(text, 0, os.SEEK_SET)
            home.say({"start": container.tag}, (text, theirs.fileno()))
        except OSError:
            ours.close()
            raise
        finally:
            os.close(text)
            theirs.close()
        return container

    def _hear(self, container: Container) -> None:
        message = container.hear()
        if message is None:
            self._loop.forget(container.report_fd)  # its pid 1 ends; the pod says when it is gone
            container.hang_up()
        elif "started" in message:
            self._started(container)

    def hear_rest(self, container: Container) -> None:
        """Take in what the pid 1 of a container that is gone said last."""
        if container.report_fd < 0:
            return
        while (message := container.hear()) is not None:
            if "started" in message:
                self._started(container)
        self._loop.forget(container.report_fd)

    def _started(self, container: Container) -> None:
        try:
            self._journal.append(
                {"type": "container-started", **container.identity(), "pid": container.pid, **container.started}
            )
        except OSError as error:
            container.failure = Refusal(
                "Failed", f"nothing may start while the journal cannot be written: {error.strerror}"
            )
            container.kill()
            return
        container.run()

    def _too_slow(self, home: Pod, container: Container) -> None:
        container.failure = Refusal(
            "Timeout",
            f"container {container.name} was not set up in {_START_WITHIN_S:.0f} s; does one of its volumes hang?",
        )
        container.answer_waiting()
        home.say({"kill": container.tag})
