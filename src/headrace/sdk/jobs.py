"""What a client knows about TrainJobs: preparing one, telling when it has ended, and merging its workers' logs."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from headrace.cluster.protocol import Cluster, Scope
from headrace.errors import Expired, InvalidSpec, NotFound, Unavailable
from headrace.ids import name_suffix
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import POD, TRAIN_JOB
from headrace.spec.names import INDEX_LABEL, JOB_LABEL, ROLE_LABEL

MAIN_CONTAINER = "main"
ENDED = ("Succeeded", "Failed", "Suspended")


class LogLine(NamedTuple):
    """One line of one worker, without its newline."""

    worker: str
    text: str


def prepared(job: Json, namespace: str) -> Json:
    """Return a copy of a TrainJob as it can be created: kind, namespace and a name where they were left out."""
    body = copy.deepcopy(job)
    body.setdefault("apiVersion", TRAIN_JOB.api_version)
    body.setdefault("kind", TRAIN_JOB.name)
    if body["kind"] != TRAIN_JOB.name:
        raise InvalidSpec(f"A {body['kind']} cannot be run.", hint="Give a TrainJob, or use: headrace apply -f FILE")
    meta = body.setdefault("metadata", {})
    meta.setdefault("namespace", namespace)
    if not meta.get("name"):
        meta["name"] = f"{meta.pop('generateName', 'job-')}{name_suffix()}"
    if not isinstance(body.setdefault("spec", {}), dict):
        raise InvalidSpec("spec must be a mapping.", hint="See: headrace explain trainjob")
    return body


def phase(job: Doc[Any]) -> str:
    return str(job.status.get("phase") or "Queued")


def has_ended(job: Doc[Any] | None) -> bool:
    return job is not None and phase(job) in ENDED


def exit_code(job: Doc[Any]) -> int:
    """Return the code a shell should see: the job's own when it failed with one, 0 for success, else 1."""
    if phase(job) == "Succeeded":
        return 0
    code = job.status.get("exitCode")
    return code if isinstance(code, int) and 0 < code < 256 else 1


def last_words(doc: Doc[Any] | None) -> str:
    """Return the message of the condition that matters most, as a clause for an error; empty when there is none."""
    if doc is None:
        return "; it does not exist"
    conditions = doc.status.get("conditions") or []
    bad = [c for c in conditions if c.get("status") != "True" and c.get("message")]
    chosen = bad[-1:] or conditions[-1:]
    return f"; last: {chosen[0].get('message') or chosen[0].get('reason')}".rstrip(".") if chosen else ""


@asynccontextmanager
async def log_lines(
    cluster: Cluster,
    job: Ref,
    *,
    follow: bool = True,
    container: str = "",
    worker: str = "",
    tail_lines: int | None = None,
    since_s: float | None = None,
) -> AsyncIterator[AsyncIterator[LogLine]]:
    """Stream the lines of a job's workers, merged, as they come.

    Args:
        follow: go on until the job has ended, over attempts; otherwise end at what there is now.
        container: another container than the user's, such as `fluid-fuse-0`.
        worker: only this one (`worker-1`).
    """
    send, receive = anyio.create_memory_object_stream[LogLine](256)
    options: dict[str, Any] = {"container": container or MAIN_CONTAINER, "tail_lines": tail_lines, "since_s": since_s}
    async with anyio.create_task_group() as group, receive:
        group.start_soon(_follow_pods if follow else _read_pods, cluster, job, worker, options, send)
        yield receive
        group.cancel_scope.cancel()


def worker_name(pod: Doc[Any]) -> str:
    """Return `worker-0`: role and index of a pod of a job."""
    return f"{pod.labels.get(ROLE_LABEL, 'worker')}-{pod.labels.get(INDEX_LABEL, '0')}"


def _has_started(pod: Doc[Any], container: str) -> bool:
    status = pod.status
    entries = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    states = [entry.get("state") or {} for entry in entries if entry.get("name") == container]
    return any("running" in state or "terminated" in state for state in states)


async def _read_pods(
    cluster: Cluster, job: Ref, worker: str, options: dict[str, Any], send: MemoryObjectSendStream[LogLine]
) -> None:
    async with send:
        page = await cluster.list(POD, Scope(namespace=job.namespace, labels=f"{JOB_LABEL}={job.name}"))
        for pod in sorted(page.items, key=lambda p: p.name):
            if _has_started(pod, options["container"]) and worker in {"", worker_name(pod)}:
                await _stream(cluster, pod, False, options, send.clone())


async def _follow_pods(
    cluster: Cluster, job: Ref, worker: str, options: dict[str, Any], send: MemoryObjectSendStream[LogLine]
) -> None:
    where = Scope(namespace=job.namespace, labels=f"{JOB_LABEL}={job.name}")
    started: set[str] = set()
    async with send, anyio.create_task_group() as streams:
        async with anyio.create_task_group() as watching:
            watching.start_soon(_cancel_at_end, cluster, job, watching.cancel_scope)
            while True:
                page = await cluster.list(POD, where)
                for pod in page.items:
                    _start(cluster, pod, worker, started, streams, options, send)
                try:
                    async with cluster.watch(POD, where, since=page.version) as changes:
                        async for change in changes:
                            if change.type in {"ADDED", "MODIFIED"}:
                                _start(cluster, change.doc, worker, started, streams, options, send)
                except (Expired, Unavailable):
                    await anyio.sleep(0.2)
        for pod in (await cluster.list(POD, where)).items:  # those that began and ended since the last event seen
            _start(cluster, pod, worker, started, streams, options, send)


def _start(
    cluster: Cluster,
    pod: Doc[Any],
    worker: str,
    started: set[str],
    streams: anyio.abc.TaskGroup,
    options: dict[str, Any],
    send: MemoryObjectSendStream[LogLine],
) -> None:
    if pod.uid in started or not _has_started(pod, options["container"]) or worker not in {"", worker_name(pod)}:
        return
    started.add(pod.uid)
    streams.start_soon(_stream, cluster, pod, True, options, send.clone())


async def _cancel_at_end(cluster: Cluster, job: Ref, scope: anyio.CancelScope) -> None:
    where = Scope(namespace=job.namespace, fields=f"metadata.name={job.name}")
    while True:
        page = await cluster.list(TRAIN_JOB, where)
        if not page.items:
            raise NotFound(f"There is no TrainJob {job}.", hint="List them with: headrace ps")
        if has_ended(page.items[0]):
            scope.cancel()
            return
        try:
            async with cluster.watch(TRAIN_JOB, where, since=page.version) as changes:
                async for change in changes:
                    if change.type == "DELETED" or has_ended(change.doc):
                        scope.cancel()
                        return
        except (Expired, Unavailable):
            await anyio.sleep(0.2)


async def _stream(
    cluster: Cluster, pod: Doc[Any], follow: bool, options: dict[str, Any], send: MemoryObjectSendStream[LogLine]
) -> None:
    name = worker_name(pod)
    rest = b""
    async with send:
        try:
            async with cluster.logs(pod.ref, follow=follow, **options) as chunks:
                async for chunk in chunks:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        await send.send(LogLine(name, line.decode(errors="replace")))
        except NotFound:
            return  # the pod went away between the list and the call
        if rest:
            await send.send(LogLine(name, rest.decode(errors="replace")))
