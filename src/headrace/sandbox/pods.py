"""The world's pods and containers: what exists, what each is doing, and the orders about them.

Every start and end is in the journal, on disk, before the answer or the event goes out.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

from headrace.sandbox import orders, plain, pod
from headrace.sandbox.containers import Container, Pod
from headrace.sandbox.journal import Entry, Journal
from headrace.sandbox.loop import Loop
from headrace.sandbox.server import Call, Handler
from headrace.sandbox.wire import Message, Refusal

_START_WITHIN_S = 60.0
_LONGEST_HOSTNAME = 64


class Pods:
    """All pods of one world.

    Args:
        stage: a directory that containers' pid 1s may mount on.
        masks: directories hidden in every container, whatever the order says.
        fresh_proc: whether a container can have a /proc of its own.
        is_plain: whether to do without namespaces, see `plain.py`.
        host_proc: descriptor of the machine's /proc.
    """

    def __init__(
        self,
        loop: Loop,
        journal: Journal,
        *,
        stage: str,
        masks: Sequence[str],
        fresh_proc: bool,
        is_plain: bool,
        host_proc: int,
    ) -> None:
        self._loop = loop
        self._journal = journal
        self._setting: Message = {"stage": stage, "fresh_proc": fresh_proc, "is_plain": is_plain}
        self._is_plain = is_plain
        self._scratch = os.path.join(stage, "plain")
        self.on_container_gone: list[Callable[[Container], None]] = []
        self._masks = list(masks)
        self._host_proc = host_proc
        self._own_namespace = -1 if is_plain else os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._pods: dict[str, Pod] = {}
        self.handlers: dict[str, Handler] = {
            "pod.create": self._create,
            "pod.remove": self._remove,
            "container.start": self._start,
            "container.signal": self._signal,
        }

    def running(self, pod_name: str, container_name: str) -> Container:
        """Return a container that runs now; raises Refusal."""
        container = self._pod(pod_name).containers.get(container_name)
        if container is None:
            raise Refusal("NotFound", f"pod {pod_name} has no container {container_name}")
        if container.state != "running":
            raise Refusal("Conflict", f"container {container_name} of pod {pod_name} is not running")
        return container

    def kill_all(self) -> None:
        """Kill every pod and wait until nothing of any is left."""
        for victim in self._pods.values():
            os.kill(victim.pid, signal.SIGKILL)
        for victim in list(self._pods.values()):
            os.waitpid(victim.pid, 0)
            self._pod_gone(victim, "Shutdown")

    def _pod(self, name: str) -> Pod:
        found = self._pods.get(name)
        if found is None:
            raise Refusal("NotFound", f"there is no pod {name} here; create it first")
        return found

    # Pods

    def _create(self, call: Call) -> None:
        name = orders.text(call.request, "pod")
        known = self._pods.get(name)
        if known is None:
            hostname = orders.text(call.request, "hostname", name)[:_LONGEST_HOSTNAME]
            labels = call.request.get("labels") or {}
            self._journal.append({"type": "pod-created", "pod": name})
            try:
                self._pods[name] = self._fork_pod(name, hostname, labels)
            except OSError:
                self._journal.note({"type": "pod-removed", "pod": name, "reason": "CreateFailed"})
                raise
        elif known.removals:
            raise Refusal("Conflict", f"pod {name} is being removed; create it again when that is done")
        call.ok()

    def _fork_pod(self, name: str, hostname: str, labels: Mapping[str, str]) -> Pod:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = pod.fork_pid_1(
                self._own_namespace,
                lambda: pod.run(theirs, self._host_proc, is_plain=self._is_plain),
                (theirs.fileno(), self._host_proc),
            )
        made = Pod(name, hostname, labels, pid, ours)
        self._loop.on_exit(pid, lambda _status: self._pod_gone(made, "Killed"))
        self._loop.on_readable(made.fd, lambda: self._hear_pod(made))
        return made

    def _remove(self, call: Call) -> None:
        found = self._pods.get(orders.text(call.request, "pod"))
        if found is None:
            call.ok()
            return
        grace_s = orders.number(call.request, "grace_s", 0)
        found.removals.append(call)
        if not grace_s or found.is_idle:
            self._kill(found)
            return
        found.ends_when_idle = True
        for container in found.containers.values():
            container.signal(signal.SIGTERM)
        self._loop.later(grace_s, lambda: self._kill(found))

    def _kill(self, victim: Pod) -> None:
        if self._pods.get(victim.name) is victim:
            os.kill(victim.pid, signal.SIGKILL)

    def _pod_gone(self, lost: Pod, reason: str) -> None:
        """Its pid 1 has been waited for, so the kernel has ended every process beneath it."""
        del self._pods[lost.name]
        if self._is_plain:
            plain.end_strays(self._loop.children)
            plain.forget(os.path.join(self._scratch, lost.name))
        self._loop.forget(lost.fd)
        lost.close()
        reason = "Removed" if lost.removals else reason
        entries = [
            entry
            for container in lost.containers.values()
            if (entry := self._container_gone(container, f"Pod{reason}"))
        ]
        self._journal.note(*entries, {"type": "pod-removed", "pod": lost.name, "reason": reason})
        for container in lost.containers.values():
            container.answer_waiting()
        for call in lost.removals:
            call.ok()

    def _hear_pod(self, speaker: Pod) -> None:
        message = speaker.hear()
        if message is None:
            return  # it has died, and that is reported otherwise
        container = next((known for known in speaker.containers.values() if known.tag == message["tag"]), None)
        if container is None:
            return
        if "failed" in message:
            container.failure = Refusal(
                "StartFailed", f"container {container.name} could not be set up: {message['failed']}"
            )
        entry = self._container_gone(container, "Killed")
        if entry is not None:
            self._journal.note(entry)
        else:
            del speaker.containers[container.name]
            container.answer_waiting()
        if speaker.ends_when_idle and speaker.is_idle:
            self._kill(speaker)

    # Containers

    def _start(self, call: Call) -> None:
        order = {**orders.container(call.request), **self._setting}
        home = self._pod(order["pod"])
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
        order |= {"hostname": home.hostname, "masks": [*order["masks"], *self._masks]}
        if self._is_plain:
            order = plain.settle(order, os.path.join(self._scratch, home.name, order["container"]))
        container = self._send_order(home, order)
        home.containers[container.name] = container
        container.answer_start(call)
        self._loop.on_readable(container.report_fd, lambda: self._hear_container(container))
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

    def _hear_container(self, container: Container) -> None:
        message = container.hear()
        if message is None:
            self._loop.forget(container.report_fd)  # its pid 1 ends; the pod says when it is gone
            container.hang_up()
        elif "started" in message:
            self._started(container)

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

    def _container_gone(self, container: Container, reason: str) -> Entry | None:
        """Hear what it said last, then take note that no process of it is left."""
        if container.report_fd >= 0:
            while (message := container.hear()) is not None:
                if "started" in message:
                    self._started(container)
            self._loop.forget(container.report_fd)
        for call in self.on_container_gone:
            call(container)
        return container.end(reason)

    def _too_slow(self, home: Pod, container: Container) -> None:
        container.failure = Refusal(
            "Timeout",
            f"container {container.name} was not set up in {_START_WITHIN_S:.0f} s; does one of its volumes hang?",
        )
        container.answer_waiting()
        home.say({"kill": container.tag})

    def _signal(self, call: Call) -> None:
        number = orders.whole(call.request, "signal", least=1)
        home = self._pod(orders.text(call.request, "pod"))
        container = home.containers.get(orders.text(call.request, "container"))
        if container is None:
            raise Refusal("NotFound", f"pod {home.name} has no container {call.request['container']}")
        call.ok(running=container.signal(number))

    def to_json(self) -> list[Message]:
        """Return the state of all pods."""
        return [known.to_json() for known in self._pods.values()]
