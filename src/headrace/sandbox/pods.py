"""The world's pods and containers: what exists, what each is doing, and the orders about them.

Every start and end is in the journal, on disk, before the answer or the event goes out.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping

from headrace.sandbox import listening, orders, plain, pod
from headrace.sandbox.containers import Container, Pod
from headrace.sandbox.jobs import answer_from_child
from headrace.sandbox.journal import Entry, Journal
from headrace.sandbox.loop import Loop
from headrace.sandbox.mounts import end_connections
from headrace.sandbox.server import Call, Handler
from headrace.sandbox.starting import Setting, Starts
from headrace.sandbox.usage import Usage
from headrace.sandbox.wire import Message, Refusal

_LONGEST_HOSTNAME = 64
_LISTENERS_WITHIN_S = 10.0


class Pods:
    """All pods of one world."""

    def __init__(self, loop: Loop, journal: Journal, setting: Setting) -> None:
        self._loop = loop
        self._journal = journal
        self._setting = setting
        self._starts = Starts(loop, journal, setting)
        self._own_namespace = -1 if setting.is_plain else os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._pods: dict[str, Pod] = {}
        self.on_container_gone: list[Callable[[Container], None]] = []
        self.handlers: dict[str, Handler] = {
            "pod.create": self._create,
            "pod.remove": self._remove,
            "pod.listening": self._listening,
            "container.start": self._start,
            "container.signal": self._signal,
            **Usage(loop, self._pods, has_namespaces=not setting.is_plain).handlers,
        }

    def running(self, pod_name: str, container_name: str) -> Container:
        """Return a container that runs now; raises Refusal."""
        container = self._pod(pod_name).containers.get(container_name)
        if container is None:
            raise Refusal("NotFound", f"pod {pod_name} has no container {container_name}")
        if container.state != "running":
            raise Refusal("Conflict", f"container {container_name} of pod {pod_name} is not running")
        return container

    def used_elsewhere(self, container: Container, cpu_ns: int) -> None:
        """A command that ran in `container` has ended, and somebody outside waited for it."""
        container.cpu.elsewhere_ns += cpu_ns
        home = self._pods.get(container.pod)
        if home is not None:
            home.cpu.elsewhere_ns += cpu_ns

    def kill_all(self) -> None:
        """Kill every pod and wait until nothing of any is left."""
        for victim in self._pods.values():
            os.kill(victim.pid, signal.SIGKILL)
        if not self._setting.is_plain:
            end_connections()
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
        host_proc = self._setting.host_proc
        with theirs:
            pid = pod.fork_pid_1(
                self._own_namespace,
                lambda: pod.run(theirs, host_proc, is_plain=self._setting.is_plain),
                (theirs.fileno(), host_proc),
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

    def _listening(self, call: Call) -> None:
        """Tell at which of `addresses` nobody but the pod answers `port`; see `listening.py`."""
        found = self._pod(orders.text(call.request, "pod"))
        port, addresses = (
            orders.whole(call.request, "port", least=1),
            orders.strings(call.request, "addresses", least=1),
        )
        firsts = [listening.pid_of(one.init_fd) for one in found.containers.values() if one.init_fd >= 0]

        def look() -> Message:
            members = plain.descendants(found.pid) if self._setting.is_plain else listening.processes_beside(firsts)
            chosen = listening.choose(listening.listeners_at(port), listening.sockets_of(members), addresses)
            return {"address": chosen.address, "foreign": chosen.is_foreign}

        answer_from_child(self._loop, call, look, timeout_s=_LISTENERS_WITHIN_S)

    def _kill(self, victim: Pod) -> None:
        if self._pods.get(victim.name) is victim:
            os.kill(victim.pid, signal.SIGKILL)

    def _pod_gone(self, lost: Pod, reason: str) -> None:
        """Its pid 1 has been waited for, so the kernel has ended every process beneath it."""
        del self._pods[lost.name]
        if self._setting.is_plain:
            plain.end_strays(self._loop.children)
            plain.forget(self._setting.scratch(lost.name))
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

    def _container_gone(self, container: Container, reason: str) -> Entry | None:
        """Hear what it said last, then take note that no process of it is left."""
        self._starts.hear_rest(container)
        for call in self.on_container_gone:
            call(container)
        return container.end(reason)

    def _start(self, call: Call) -> None:
        order = orders.container(call.request)
        self._starts.start(call, self._pod(order["pod"]), order)

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
