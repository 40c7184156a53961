"""The controller of probe mounts: observe one Dataset and its probes, ask for evidence where needed, plan, act."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import anyio

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.protocol import Cluster, Scope
from headrace.data.act import Plan, TellEvent, perform
from headrace.data.conditions import BOUND
from headrace.data.modes.catalogue import NATIVE
from headrace.data.modes.mode import Capabilities
from headrace.data.runtime.config import access_modes
from headrace.data.runtime.judge import judge
from headrace.data.runtime.observe import DatasetObserver
from headrace.data.runtime.pools import allowed_pools, is_ready
from headrace.data.verify.outcome import Evidence, client_container, wants_evidence
from headrace.data.verify.plan import Observed, plan
from headrace.data.verify.pod import ProbeSettings, mode_of
from headrace.errors import HeadraceError
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import (
    DATASET,
    EVENT,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POOL,
    SECRET,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
)
from headrace.spec.names import POOL_LABEL, PROBE_LABEL

_PROBES, _RUNNING = "data/probes", "data/probes-that-run"
_ASK_WITHIN_S = 5.0
_LOG_LINES = 40


class Verifier:
    """Keeps `MountVerified` true.

    Args:
        observer: of the same cache.
        capabilities_of: what a pool's nodes can do; the tools in them change what is injected.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        observer: DatasetObserver,
        tell: TellEvent,
        clock: Clock,
        *,
        capabilities_of: Callable[[Doc[Any]], Capabilities],
        settings: ProbeSettings | None = None,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._observer = observer
        self._tell = tell
        self._clock = clock
        self._capabilities_of = capabilities_of
        self._settings = settings or ProbeSettings()
        cache.add_index(POD, _PROBES, _dataset_of_probe)
        cache.add_index(POD, _RUNNING, _pool_of_running_probe)
        self._pods = cache.reader(POD)
        self._pools = cache.reader(POOL)
        self._datasets = cache.reader(DATASET)

    def controller(self) -> Controller:
        """Return the controller, which belongs into a group with the same cache."""
        controller = Controller("data.verify", self._cache, self.reconcile)
        controller.watches(DATASET)
        controller.watches(THIN_RUNTIME)
        controller.watches(THIN_RUNTIME_PROFILE, self._observer.of_profile)
        controller.watches(PERSISTENT_VOLUME_CLAIM, self._observer.of_claim)
        controller.watches(PERSISTENT_VOLUME, self._observer.of_volume)
        controller.watches(SECRET, self._observer.of_secret)
        controller.watches(POOL, self._every_dataset)
        return controller.watches(POD, _of_probe)

    async def reconcile(self, ref: Ref) -> Result:
        """Look once."""
        observed = self.observe(ref)
        unclear = [pod for pod in observed.pods if wants_evidence(pod, self._clock.now(), self._settings.deadline_s)]
        if unclear:
            evidence = {pod.name: await self._ask(pod) for pod in unclear}
            observed = replace(observed, evidence=evidence)
        decided = plan(observed, self._clock.now(), self._settings, self._capabilities_of)
        await perform(decided, self._cluster, self._cache, self._tell)
        return Result(decided.again_after_s)

    def begin(self, dataset: Doc[Any]) -> Plan:
        """Return what to do about a Dataset as it is about to be; nothing where probes are on their way already."""
        observed = self.observe(dataset.ref, dataset)
        if observed.resolved is None or observed.pods:
            return Plan()
        return plan(observed, self._clock.now(), self._settings, self._capabilities_of)

    def observe(self, ref: Ref, dataset: Doc[Any] | None = None) -> Observed:
        """Return the Dataset, or what is given for it, and its probes as the cache has them."""
        pods = tuple(sorted(self._pods.by_index(_PROBES, str(ref)), key=lambda pod: pod.name))
        dataset = dataset or self._datasets.get(ref)
        if dataset is None or dataset.status.get("phase") != BOUND:
            return Observed(dataset=dataset, pods=pods)
        parts = self._observer.parts(ref)
        assert parts is not None
        verdict = judge(parts)
        if verdict.resolved is None or verdict.config is None:
            return Observed(dataset=dataset, pods=pods)
        allowed = allowed_pools(dataset, *parts.claims.values())
        pools = [pool for pool in self._pools.list() if allowed is None or pool.name in allowed]
        if not any(mode.endswith("Many") for mode in access_modes(dataset.raw)):
            # Its own driver would attach it to the probe's node, away from whoever has it now.
            pools = [pool for pool in pools if mode_of(pool) != NATIVE]
        secrets = sorted((name, doc.version) for name, doc in parts.secrets.items() if doc is not None)
        return Observed(
            dataset=dataset,
            resolved=verdict.resolved,
            config=verdict.config.text,
            secret_versions=tuple(f"{name}@{version}" for name, version in secrets),
            pools=tuple(sorted((pool for pool in pools if is_ready(pool)), key=lambda pool: pool.name)),
            resting=frozenset(pool.name for pool in pools if not is_ready(pool)),
            pods=pods,
            others={pool.name: len(self._running_in(pool.name) - {pod.ref for pod in pods}) for pool in pools},
        )

    def _running_in(self, pool: str) -> set[Ref]:
        return {pod.ref for pod in self._pods.by_index(_RUNNING, pool)}

    async def _ask(self, pod: Doc[Any]) -> Evidence:
        """Return the end of the client's log and the last warning about the pod; what cannot be had is left out."""
        log, warning = "", ""
        with anyio.move_on_after(_ASK_WITHIN_S):
            try:
                warning = await self._last_warning(pod)
                log = await self._client_log(pod)
            except HeadraceError:
                return Evidence(log, warning)
        return Evidence(log, warning)

    async def _client_log(self, pod: Doc[Any]) -> str:
        container = client_container(pod)
        if not container:
            return ""
        async with self._cluster.logs(pod.ref, container=container, tail_lines=_LOG_LINES) as stream:
            return b"".join([chunk async for chunk in stream]).decode(errors="replace")

    async def _last_warning(self, pod: Doc[Any]) -> str:
        where = Scope(namespace=pod.namespace, fields=f"involvedObject.name={pod.name},type=Warning")
        page = await self._cluster.list(EVENT, where)
        latest = max(page.items, key=lambda event: str(event.raw.get("lastTimestamp") or ""), default=None)
        return str(latest.raw.get("message") or "") if latest is not None else ""

    def _every_dataset(self, _pool: Doc[Any]) -> Iterable[Ref]:
        return [dataset.ref for dataset in self._datasets.list()]


def _dataset_of_probe(pod: Doc[Any]) -> Iterable[str]:
    return [f"{pod.namespace}/{pod.labels[PROBE_LABEL]}"] if PROBE_LABEL in pod.labels else []


def _pool_of_running_probe(pod: Doc[Any]) -> Iterable[str]:
    """One that is to go has been judged, and on a lost node it never goes."""
    is_probe = PROBE_LABEL in pod.labels and POOL_LABEL in pod.labels
    has_ended = pod.is_deleting or pod.status.get("phase") in {"Succeeded", "Failed"}
    return [pod.labels[POOL_LABEL]] if is_probe and not has_ended else []


def _of_probe(pod: Doc[Any]) -> Iterable[Ref]:
    return [Ref(pod.namespace, pod.labels[PROBE_LABEL])] if PROBE_LABEL in pod.labels else []
