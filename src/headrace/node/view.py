"""What the node's endpoint shows: pods as the agent knows them, what they use, their logs, commands in their containers."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable

from anyio import to_thread

from headrace.errors import HeadraceError, NotFound
from headrace.node import exec as commands
from headrace.node import logs, resources, status
from headrace.node.logs import LogOptions
from headrace.node.podspec import PodSpec
from headrace.node.ports import PodPorts
from headrace.node.shared import Shared
from headrace.node.usage import Figures, KnownPod, NodeUsage, figures, pods_of
from headrace.node.worker import Worker
from headrace.sandbox import memory
from headrace.spec.kind import Json
from headrace.units import parse_quantity

_MEASURED_WITHIN_S = 10.0  # as long as metrics-server and Prometheus wait
_AGENT_STARTED_NS = time.time_ns()


class NotRunning(HeadraceError):
    """The container is there but does not run, or has not run yet. Wait for it, or ask for its previous log."""

    code = "BadRequest"
    http_status = 400


class View:
    """Satisfies `server.NodeView`."""

    def __init__(self, shared: Shared, workers: Callable[[], Iterable[Worker]]) -> None:
        self._shared = shared
        self._workers = workers

    def pods(self) -> list[Json]:
        """Return the pods with the status their records tell, written or not."""
        shown = []
        for worker in self._workers():
            facts = status.Facts(host_ip=self._shared.host_ip, shows_address=self._shared.shows_addresses)
            attempts = {name: state.runs[-1].attempt for name, state in worker.record.containers.items() if state.runs}
            now = status.compute(worker.pod, worker.record, facts, self._shared.now(), attempts)
            shown.append({**worker.pod.raw, "status": {**worker.pod.status, **now}})
        return shown

    async def usage(self) -> NodeUsage:
        """Ask the world, and look at this process.

        A world that was started by an earlier version, and that goes on while its agent is another, refuses it.
        """
        workers = list(self._workers())
        answer = await self._shared.world.request(
            "usage", timeout_s=_MEASURED_WITHIN_S, volumes={one.pod.uid: self._in_memory(one.pod) for one in workers}
        )
        world, agent = figures(answer), await to_thread.run_sync(_agent)
        return NodeUsage(
            name=self._shared.name,
            at_ns=answer["wall_ns"],
            started_ns=self._shared.surroundings.started_ns,
            allocatable_bytes=int(parse_quantity(self._shared.allocatable.get("memory", "0"))),
            used=Figures(world.cpu_ns + agent.cpu_ns, world.memory_bytes + agent.memory_bytes),
            agent=agent,
            agent_started_ns=_AGENT_STARTED_NS,
            pods=pods_of(answer, {one.pod.uid: _known(one) for one in workers}),
        )

    def _in_memory(self, pod: PodSpec) -> list[str]:
        """Return where the pod's volumes in memory are; those that are not yet are none."""
        place = self._shared.place(pod.uid)
        volumes = pod.spec.get("volumes") or []
        names = [str(one["name"]) for one in volumes if (one.get("emptyDir") or {}).get("medium") == "Memory"]
        return [str(place.mount(name)) for name in names]

    def log(
        self, namespace: str, pod: str, container: str, options: LogOptions, *, previous: bool
    ) -> Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]:
        worker = self._find(namespace, pod, container)
        state = worker.record.of(container)
        run = state.current
        if run is None:
            reason = state.trouble.reason if state.trouble else "ContainerCreating"
            raise NotRunning(f'container "{container}" in pod "{pod}" is waiting to start: {reason}')
        attempt = run.attempt - 1 if previous else run.attempt
        path = self._shared.place(worker.pod.uid).log(container, attempt)
        if previous and (attempt < 0 or not path.exists()):
            raise NotRunning(f'previous terminated container "{container}" in pod "{pod}" not found')

        async def wait_for_end() -> None:
            while True:
                changed = worker.changed
                found = worker.record.of(container).run(attempt)
                if found is None or not found.is_running:
                    return
                await changed.wait()

        async def source(send: Callable[[bytes], Awaitable[None]]) -> None:
            await logs.stream(path, options, send, wait_for_end)

        return source

    def check_running(self, namespace: str, pod: str, container: str, *, uid: str = "") -> None:
        if not self._find(namespace, pod, container, uid).record.of(container).is_running:
            raise NotRunning(f'container "{container}" of pod "{pod}" is not running')

    async def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        argv: list[str],
        channel: commands.Channel,
        *,
        stdin: bool,
        tty: bool,
    ) -> int:
        worker = self._find(namespace, pod, container)
        uid = worker.pod.uid
        return await commands.run(
            self._shared.world, pod=uid, container=container, argv=argv, channel=channel, stdin=stdin, tty=tty
        )

    def ports(self, namespace: str, pod: str, uid: str = "") -> PodPorts:
        worker = self._find_pod(namespace, pod, uid)
        if not worker.record.any_running:
            phase = worker.pod.phase
            raise NotRunning(f"unable to forward port because pod is not running. Current status={phase}")

        async def until_gone() -> None:
            while True:
                changed = worker.changed
                record = worker.record
                is_ending = worker.is_gone or worker.pod.is_terminal or record.ending is not None
                if record.released or (is_ending and not record.any_running):
                    return
                await changed.wait()

        return PodPorts(self._shared.world, namespace, pod, worker.pod.uid, worker.record.address, until_gone)

    def _find(self, namespace: str, pod: str, container: str, uid: str = "") -> Worker:
        worker = self._find_pod(namespace, pod, uid)
        if container not in worker.pod.by_name:
            raise NotFound(f'container "{container}" is not in pod "{pod}" of namespace {namespace}.')
        return worker

    def _find_pod(self, namespace: str, pod: str, uid: str = "") -> Worker:
        for worker in self._workers():
            if (worker.pod.namespace, worker.pod.name) == (namespace, pod) and uid in {"", worker.pod.uid}:
                return worker
        which = f" with uid {uid}" if uid else ""
        raise NotFound(f'pod "{pod}" of namespace {namespace}{which} is not on node {self._shared.name}.')


def _agent() -> Figures:
    return Figures(time.process_time_ns(), memory.share(os.getpid()).bytes)


def _known(worker: Worker) -> KnownPod:
    limits = {one.name: int(resources.quantity(one, "limits", "memory") or 0) for one in worker.pod.containers}
    return KnownPod(worker.pod.namespace, worker.pod.name, int(worker.record.start_time * 1e9), limits)
