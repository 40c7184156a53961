"""What the node's endpoint shows: pods as the agent knows them, their logs, commands in their containers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from headrace.errors import HeadraceError, NotFound
from headrace.node import exec as commands
from headrace.node import logs, status
from headrace.node.logs import LogOptions
from headrace.node.ports import PodPorts
from headrace.node.shared import Shared
from headrace.node.worker import Worker
from headrace.spec.kind import Json


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
