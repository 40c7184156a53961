"""The probes and hooks of one pod while it runs: one task each, as many as its containers' states call for.

Verdicts become facts in the record; what follows from them is the state machine's to decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import anyio
from anyio.abc import TaskGroup

from headrace.errors import HeadraceError, Unavailable
from headrace.node import lifecycle, probes
from headrace.node.handlers import Verdict
from headrace.node.podspec import Container, PodSpec
from headrace.node.probes import Outcome, ProbeKind
from headrace.node.record import PodRecord
from headrace.node.shared import Shared

_NAMES: dict[ProbeKind, str] = {"startupProbe": "Startup", "livenessProbe": "Liveness", "readinessProbe": "Readiness"}


class _Key(NamedTuple):
    container: str
    attempt: int
    kind: ProbeKind


class Asking:
    """Probes and hooks of one pod.

    Args:
        tasks: where they run; cancelled with the pod's worker.
        changed: called after the record was changed.
    """

    def __init__(self, shared: Shared, record: PodRecord, tasks: TaskGroup, changed: Callable[[], None]) -> None:
        self._shared = shared
        self._record = record
        self._tasks = tasks
        self._changed = changed
        self._running: dict[_Key, anyio.CancelScope] = {}

    def sync(self, pod: PodSpec) -> None:
        """Begin the probes that should run now and end those that should not. Idempotent."""
        wanted = set() if self._record.ending is not None else set(self._wanted(pod))
        for key in set(self._running) - wanted:
            self._running.pop(key).cancel()
        for key in wanted - set(self._running):
            scope = self._running[key] = anyio.CancelScope()
            self._tasks.start_soon(self._watch, pod, key, scope)

    def _wanted(self, pod: PodSpec) -> list[_Key]:
        keys: list[_Key] = []
        for container in pod.containers:
            state = self._record.of(container.name)
            if not state.is_running or state.stop is not None:
                continue
            kinds: tuple[ProbeKind, ...] = ("livenessProbe", "readinessProbe") if state.started else ("startupProbe",)
            attempt = state.runs[-1].attempt
            keys += [_Key(container.name, attempt, kind) for kind in kinds if container.probe(kind)]
        return keys

    async def _watch(self, pod: PodSpec, key: _Key, scope: anyio.CancelScope) -> None:
        container = pod.by_name[key.container]
        probe = container.probe(key.kind)
        run = self._record.of(key.container).run(key.attempt)
        assert probe is not None
        settings = probes.Settings.of(probe)
        age_s = self._shared.now() - run.started_ns / 1e9 if run else 0.0

        async def ask() -> Verdict:
            try:
                return await self._shared.handlers.run(pod, container, probe, self._record.address, settings.timeout_s)
            except Unavailable:
                raise
            except HeadraceError as error:
                return Verdict(False, str(error))

        def told(outcome: Outcome, verdict: Verdict) -> bool:
            return self._told(pod, container, key, outcome, verdict)

        with scope:
            await probes.watch(key.kind, settings, ask, told, ran_for_s=max(0.0, age_s))

    def _told(self, pod: PodSpec, container: Container, key: _Key, outcome: Outcome, verdict: Verdict) -> bool:
        state = self._record.of(key.container)
        if not state.is_running or state.runs[-1].attempt != key.attempt:
            return False
        if not verdict.ok:
            text = f"{_NAMES[key.kind]} probe failed: {verdict.said}"
            self._shared.events.warning(pod, "Unhealthy", text)
        if outcome == "undecided":
            return True
        before = (state.started, state.ready, state.stop)
        if key.kind == "readinessProbe":
            state.ready = outcome == "success"
        elif outcome == "failure":
            reason = lifecycle.LIVENESS_FAILED if key.kind == "livenessProbe" else lifecycle.STARTUP_FAILED
            probe = container.probe(key.kind) or {}
            grace = probe.get("terminationGracePeriodSeconds")
            state.note_stop(self._shared.now(), pod.grace_s if grace is None else float(grace), reason)
            will = "will be restarted" if pod.restart_policy != "Never" or container.role == "sidecar" else "is ended"
            name = _NAMES[key.kind].lower()
            self._shared.events.normal(pod, "Killing", f"Container {container.name} failed {name} probe, {will}")
        elif key.kind == "startupProbe":
            state.started = True
        if before != (state.started, state.ready, state.stop):
            self._changed()
        return key.kind != "startupProbe" and state.stop is None

    def run_hook(self, pod: PodSpec, name: str, hook: Literal["postStart", "preStop"]) -> None:
        """Begin a container's hook; its end is noted in the record."""
        state = self._record.of(name)
        if hook == "postStart":
            state.post_start = "running"
        elif state.stop is not None:
            state.stop.pre_stop = "running"
        self._tasks.start_soon(self._hook, pod, pod.by_name[name], hook, state.runs[-1].attempt)

    async def _hook(
        self, pod: PodSpec, container: Container, hook: Literal["postStart", "preStop"], attempt: int
    ) -> None:
        handler = container.hook(hook) or {}
        try:
            verdict = await self._shared.handlers.run(
                pod, container, handler, self._record.address, self._limit_s(container)
            )
        except HeadraceError as error:
            verdict = Verdict(False, str(error))
        state = self._record.of(container.name)
        if not state.is_running or state.runs[-1].attempt != attempt:
            return
        if hook == "preStop":
            if not verdict.ok:
                self._shared.events.warning(pod, "FailedPreStopHook", f"PreStopHook failed: {verdict.said}")
            if state.stop is not None:
                state.stop.pre_stop = "done"
        elif verdict.ok:
            state.post_start = "done"
        else:
            self._shared.events.warning(pod, "FailedPostStartHook", f"PostStartHook failed: {verdict.said}")
            state.note_stop(self._shared.now(), pod.grace_s, lifecycle.POST_START_FAILED, verdict.said)
        self._changed()

    def _limit_s(self, container: Container) -> float:
        """A preStop hook has the container's grace, a postStart hook all the time it wants, as by kubelet."""
        stop = self._record.of(container.name).stop
        return max(1.0, stop.deadline - self._shared.now()) if stop else math.inf
