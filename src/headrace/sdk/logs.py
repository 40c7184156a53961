"""Merges the output of a job's workers into one stream of lines, over attempts and over a server that restarts.

Lines are asked for with timestamps: after a cut a worker's output goes on behind the last line that was seen.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from headrace.clock import SystemClock, parse_time
from headrace.cluster.protocol import Cluster, Scope
from headrace.errors import NotFound, Unavailable
from headrace.sdk import jobs, watching
from headrace.sdk.pumping import pumped
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import POD, TRAIN_JOB
from headrace.spec.names import JOB_LABEL

_STAMPED = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ")


class LogLine(NamedTuple):
    """One line of one worker, without its newline."""

    worker: str
    text: str


class _Wanted(NamedTuple):
    """What of each worker is wanted."""

    container: str
    worker: str
    tail_lines: int | None
    since_s: float | None

    def takes(self, pod: Doc[Any]) -> bool:
        return self.worker in {"", jobs.worker_name(pod)} and _state(pod, self.container) != "waiting"


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
        follow: go on until the job has ended, over attempts; otherwise end at what there is now, worker after worker.
        container: another container than the user's, such as `fluid-fuse-0`.
        worker: only this one (`worker-1`).

    Raises NotFound when there is no such job, Unavailable when the server is away for more than a minute.
    """
    await cluster.get(TRAIN_JOB, job)
    wanted = _Wanted(container or jobs.MAIN_CONTAINER, worker, tail_lines, since_s)
    read = partial(_follow_pods if follow else _read_pods, cluster, job, wanted)
    async with pumped(read, buffered=256) as lines:
        yield lines


def _pods(job: Ref) -> Scope:
    return Scope(namespace=job.namespace, labels=f"{JOB_LABEL}={job.name}")


async def _read_pods(cluster: Cluster, job: Ref, wanted: _Wanted, send: MemoryObjectSendStream[LogLine]) -> None:
    """Read what there is of every worker; one that cannot be reached is reported after the others have been read."""
    unreachable: Unavailable | None = None
    for pod in sorted(await watching.every(cluster, POD, _pods(job)), key=lambda pod: pod.name):
        if wanted.takes(pod):
            try:
                await _Tail(cluster, pod, wanted, send).run(follow=False)
            except Unavailable as error:
                unreachable = unreachable or error
    if unreachable is not None:
        raise unreachable


async def _follow_pods(cluster: Cluster, job: Ref, wanted: _Wanted, send: MemoryObjectSendStream[LogLine]) -> None:
    """Follow every pod of the job that starts until the job has ended, and each of them to its own end."""
    started: set[str] = set()

    def start(pod: Doc[Any]) -> None:
        if pod.uid not in started and wanted.takes(pod):
            started.add(pod.uid)
            tails.start_soon(_Tail(cluster, pod, wanted, send).run)

    async with anyio.create_task_group() as tails:
        async with anyio.create_task_group() as watchers:
            watchers.start_soon(_watch_pods, cluster, job, start)
            async with watching.states(cluster, TRAIN_JOB, job) as states:
                async for state in states:
                    if state is None or jobs.has_stopped(state):
                        break
            watchers.cancel_scope.cancel()
        for pod in await watching.every(cluster, POD, _pods(job)):  # those that began and ended unseen
            start(pod)


async def _watch_pods(cluster: Cluster, job: Ref, start: Callable[[Doc[Any]], None]) -> None:
    async with watching.documents(cluster, POD, _pods(job)) as pods:
        async for pod in pods:
            start(pod)


def _state(pod: Doc[Any], container: str) -> str:
    """Return `waiting`, `running` or `terminated`."""
    status = pod.status
    entries = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    states: list[Json] = [entry.get("state") or {} for entry in entries if entry.get("name") == container]
    return next((name for name in ("running", "terminated") if states and name in states[0]), "waiting")


class _Tail:
    """The output of one worker: sends its lines, each once."""

    def __init__(self, cluster: Cluster, pod: Doc[Any], wanted: _Wanted, send: MemoryObjectSendStream[LogLine]) -> None:
        self._cluster = cluster
        self._pod = pod
        self._wanted = wanted
        self._send = send
        self._name = jobs.worker_name(pod)
        self._last = b""  # the stamp of the last line sent
        self._repeated = False  # what comes now may have been sent before a cut
        self._is_stamped = True  # some virtual nodes give no stamps; then nothing can be taken up again

    async def run(self, *, follow: bool = True) -> None:
        patience = watching.Patience()
        while True:
            try:
                await self._stream(follow, patience)
                if not follow or await self._has_ended():
                    return
                raise Unavailable(f"The output of {self._pod.ref} ended while it runs.", hint="Look again.")
            except NotFound:
                return  # the pod went away
            except Unavailable as error:
                if not follow or not self._is_stamped:
                    raise
                await patience.pause(error)

    async def _stream(self, follow: bool, patience: watching.Patience) -> None:
        rest = b""
        self._repeated = bool(self._last)
        async with self._cluster.logs(
            self._pod.ref,
            container=self._wanted.container,
            follow=follow,
            tail_lines=None if self._last else self._wanted.tail_lines,
            since_s=self._since_s(),
            timestamps=True,
        ) as chunks:
            async for chunk in chunks:
                patience.renew()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    await self._line(line)
        if rest:
            await self._line(rest)

    def _since_s(self) -> float | None:
        if not self._last:
            return self._wanted.since_s
        age_s = (SystemClock().now() - parse_time(self._last.decode())).total_seconds()
        return max(1.0, age_s + 1.0)

    async def _line(self, line: bytes) -> None:
        match = _STAMPED.match(line)
        if match is not None:
            if self._repeated and _moment(match[1]) <= _moment(self._last):
                return
            self._repeated = False
            self._last = match[1]
            line = line[match.end() :]
        else:
            self._is_stamped = False
        await self._send.send(LogLine(self._name, line.decode(errors="replace")))

    async def _has_ended(self) -> bool:
        pod = await self._cluster.get(POD, self._pod.ref)
        is_running = pod.uid == self._pod.uid and _state(pod, self._wanted.container) == "running"
        return not is_running or not self._is_stamped


def _moment(stamp: bytes) -> tuple[str, str]:
    """Return an order of RFC 3339 stamps to the nanosecond, which Python's datetime does not keep."""
    text = stamp.decode()
    fraction = re.search(r"\.(\d+)", text)
    return parse_time(text).replace(microsecond=0).isoformat(), (fraction[1] if fraction else "").ljust(9, "0")
