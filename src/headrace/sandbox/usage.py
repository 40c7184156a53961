"""What containers, pods and the world use: the order `usage`. Nothing is measured while nobody asks.

It reads /proc, which takes long where processes are large or many, so a child does it. No cgroup is asked, because few
machines delegate one to an ordinary user; what is counted is what one would count (see `accounting.py`, `memory.py`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from headrace.sandbox import accounting, memory, orders
from headrace.sandbox.accounting import WORLD, Counter, Firsts, Owner, Process
from headrace.sandbox.containers import Container, Pod
from headrace.sandbox.jobs import answer_from_child
from headrace.sandbox.listening import namespace_of, pid_of
from headrace.sandbox.loop import Loop
from headrace.sandbox.memory import Share
from headrace.sandbox.server import Call, Handler
from headrace.sandbox.wire import Message, Refusal

_WITHIN_S = 9.0
_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: nanoseconds of all threads


class _Place(NamedTuple):
    """A pod as it was when the look began: its pid 1, its containers with theirs, and the tmpfs that are its volumes."""

    pod: str
    pid: int
    containers: Sequence[tuple[Container, int]]
    volumes: Sequence[str]


class Usage:
    """The order `usage`.

    Args:
        pods: all pods of the world, by name.
        has_namespaces: whether containers have PID namespaces of their own.
    """

    def __init__(self, loop: Loop, pods: Mapping[str, Pod], *, has_namespaces: bool) -> None:
        self._loop = loop
        self._pods = pods
        self._has_namespaces = has_namespaces
        self._cpu = Counter()
        self.handlers: dict[str, Handler] = {"usage": self._usage}

    def _usage(self, call: Call) -> None:
        """Answer `{wall_ns, cpu_ns, memory_bytes, pods: [{pod, cpu_ns, memory_bytes, containers: [{container, attempt,
        cpu_ns, memory_bytes, started_wall_ns}]}]}`: of containers that run, of all pods, and of the world with all in it.

        The request's `volumes: {pod: [path]}` says which tmpfs of the world are pods' own.
        """
        volumes = call.request.get("volumes", {})
        if not isinstance(volumes, dict):
            raise Refusal("Invalid", f"volumes must be an object, not {volumes!r}")
        places = [_place(pod, orders.strings(volumes, pod.name)) for pod in self._pods.values()]
        world = int(os.readlink("/proc/self"))

        def finish(measured: Message) -> Message:
            told = [self._told(place, one) for place, one in zip(places, measured["pods"], strict=True)]
            return {**measured, "cpu_ns": self._cpu.tell(measured["cpu_ns"]), "pods": [one for one in told if one]}

        def look() -> Message:
            return _look(world, places, has_namespaces=self._has_namespaces)

        answer_from_child(self._loop, call, look, timeout_s=_WITHIN_S, finish=finish)

    def _told(self, place: _Place, measured: Message) -> Message | None:
        """Return what is told of a pod, None for one that has gone meanwhile."""
        pod = self._pods.get(place.pod)
        if pod is None or pod.pid != place.pid:
            return None
        containers = [
            {
                "container": container.name,
                "attempt": container.attempt,
                "started_wall_ns": container.started["wall_ns"],
                "cpu_ns": container.cpu.tell(one["cpu_ns"]),
                "memory_bytes": one["memory_bytes"],
            }
            for (container, _), one in zip(place.containers, measured["containers"], strict=True)
            if container.state == "running"
        ]
        return {**measured, "cpu_ns": pod.cpu.tell(measured["cpu_ns"]), "containers": containers}


def _place(pod: Pod, volumes: list[str]) -> _Place:
    running = [one for one in pod.containers.values() if one.state == "running"]
    return _Place(pod.name, pod.pid, [(one, pid_of(one.init_fd)) for one in running], volumes)


def _look(world: int, places: Iterable[_Place], *, has_namespaces: bool) -> Message:
    wall_ns = time.time_ns()
    whose: dict[int, Owner] = {world: WORLD}
    for place in places:
        whose[_as_proc_numbers(place.pid)] = (place.pod, "")
        whose |= {pid: (place.pod, container.name) for container, pid in place.containers}
    whose.pop(-1, None)
    namespaces = {namespace_of(pid): owner for pid, owner in whose.items() if owner[1]} if has_namespaces else {}
    namespaces.pop(0, None)
    firsts = Firsts(whose, namespaces)
    processes = _processes(with_namespaces=has_namespaces)
    belongs = accounting.owners(processes, firsts)
    used_ns = accounting.used_ns(processes, belongs, firsts)
    shares: dict[tuple[Owner, bool], list[Share]] = {}
    for pid, owner in belongs.items():
        shares.setdefault((owner, pid in whose), []).append(memory.share(pid))
    own_tmpfs = set(memory.own_tmpfs({volume for place in places for volume in place.volumes}))
    total_bytes = memory.working_set_bytes(shares.get((WORLD, True), []) + shares.get((WORLD, False), []), 0)
    pods = []
    for place in places:
        one = _pod(place, used_ns, shares, own_tmpfs)
        pods.append(one)
        total_bytes += one["memory_bytes"]
    return {"wall_ns": wall_ns, **_figures(used_ns[WORLD], total_bytes), "pods": pods}


def _pod(
    place: _Place,
    used_ns: Mapping[Owner, int],
    shares: Mapping[tuple[Owner, bool], list[Share]],
    own_tmpfs: Collection[str],
) -> Message:
    containers = []
    ours = list(shares.get(((place.pod, ""), True), []))
    for container, pid in place.containers:
        owner = (place.pod, container.name)
        files_bytes = 0 if container.order["is_plain"] else _files_bytes(pid)
        containers.append(
            _figures(used_ns.get(owner, 0), memory.working_set_bytes(shares.get((owner, False), []), files_bytes))
        )
        ours += shares.get((owner, True), [])
    ours += shares.get(((place.pod, ""), False), [])
    volumes_bytes = sum(memory.tmpfs_bytes(path) for path in place.volumes if path in own_tmpfs)
    pod_bytes = sum(one["memory_bytes"] for one in containers) + memory.working_set_bytes(ours, volumes_bytes)
    return {"pod": place.pod, **_figures(used_ns.get((place.pod, ""), 0), pod_bytes), "containers": containers}


def _figures(cpu_ns: int, memory_bytes: int) -> Message:
    return {"cpu_ns": cpu_ns, "memory_bytes": memory_bytes}


def _files_bytes(first: int) -> int:
    """Return what a container keeps in its own tmpfs, found by its pid 1."""
    try:
        places = memory.own_tmpfs(memory.FILE_SYSTEMS, str(first))
    except OSError:
        return 0  # it has just ended
    return sum(memory.tmpfs_bytes(f"/proc/{first}/root{place}") for place in places)


def _processes(*, with_namespaces: bool) -> dict[int, Process]:
    # Where no /proc of ours could be mounted it numbers processes as the machine does, and a clock would be another's.
    has_clocks = int(os.readlink("/proc/self")) == os.getpid()
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            one = accounting.parse_stat(file.read(), namespace_of(pid) if with_namespaces else 0)
            found[pid] = one._replace(own_ns=_clock_ns(pid)) if has_clocks else one
    return found


def _clock_ns(pid: int) -> int:
    """Return what a process used itself: most of a node's use less than a tick, and who reads no time drops their pods.

    Source: clock_getcpuclockid(3); metrics-server `pkg/scraper/client/resource/decode.go`.
    """
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)


def _as_proc_numbers(child: int) -> int:
    """Return a pid of our namespace as this /proc, which may be the machine's, numbers it; -1 when it is gone."""
    try:
        pidfd = os.pidfd_open(child)
    except OSError:
        return -1
    try:
        return pid_of(pidfd)
    finally:
        os.close(pidfd)
