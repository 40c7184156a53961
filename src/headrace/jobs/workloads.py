"""TrainJobs as the scheduler sees them: caches → snapshot, decisions → placements.

A placement is written compare-and-swap on the job's resourceVersion, so two schedulers can never both place one job
(docs/design.md, section 6), and assumed in the cache, so the next look already counts it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from headrace.clock import Clock, format_time, parse_time
from headrace.cluster.cache import Cache
from headrace.cluster.events import Recorder
from headrace.cluster.protocol import Cluster, MergePatch
from headrace.errors import Conflict, NotFound
from headrace.jobs import gang, terms
from headrace.jobs.dataplane import DataPlane
from headrace.pools.capacity import is_member, is_ready, room
from headrace.pools.occupancy import BoundPods
from headrace.pools.price import card
from headrace.scheduling.choices import sentence
from headrace.scheduling.decide import BACKED_OFF, CLOUD_FULL, WAITING_FOR_OWN
from headrace.scheduling.model import Access, Gang, NodeState, Place, PoolState, Running, Snapshot, Wait, Worker
from headrace.spec import amounts
from headrace.spec.amounts import Amounts
from headrace.spec.conditions import find_condition, set_condition
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import NODE, POD, POOL, QUEUE, TRAIN_JOB
from headrace.units import parse_bandwidth_bytes_per_s, parse_duration_s

_BACK_OFF_S = 60.0
_NOT_READY_S = 30.0
_WITH_FIGURES = {WAITING_FOR_OWN, CLOUD_FULL, BACKED_OFF}
"""Reasons whose sentences have times and amounts in them: a new figure is nothing new."""


class Workloads:
    """Implements `scheduling.loop.Workloads` over one cache."""

    def __init__(self, cluster: Cluster, cache: Cache, data: DataPlane, clock: Clock, events: Recorder) -> None:
        self._cluster = cluster
        self._cache = cache
        self._data = data
        self._clock = clock
        self._events = events
        self._jobs = cache.reader(TRAIN_JOB)
        self._pools = cache.reader(POOL)
        self._queues = cache.reader(QUEUE)
        self._nodes = cache.reader(NODE)
        self._pods = cache.reader(POD)
        self._bound = BoundPods(cache)

    # -- observe -----------------------------------------------------------------------------------------------------

    def snapshot(self, now_s: float, *, candidate: Doc[Any] | None = None) -> Snapshot:
        """Return the whole picture. `candidate` is a job that is not submitted yet, to be quoted."""
        jobs = self._jobs.list()
        pools = sorted(self._pools.list(), key=lambda pool: pool.meta.get("creationTimestamp", ""))
        waiting = [job for job in jobs if is_waiting(job)]
        if candidate is not None:
            waiting.append(candidate)
        placed = [job for job in jobs if is_placed(job)]
        running = [found for job in placed if (found := self._running(job, jobs)) is not None]
        return Snapshot(
            now_s=now_s,
            pools=tuple(self._pool(pool, order, placed, jobs, now_s) for order, pool in enumerate(pools)),
            waiting=tuple(self._gang(job, pools, jobs, now_s) for job in waiting),
            running=tuple(running),
        )

    def _pool(
        self, pool: Doc[Any], order: int, placed: Sequence[Doc[Any]], jobs: Sequence[Doc[Any]], now_s: float
    ) -> PoolState:
        measured = room(pool, self._nodes.list(), self._bound.used)
        planned = [shape for job in placed for shape in self._unbound(job, pool.name)]
        nodes = tuple(NodeState(n.name, n.total, _without(n.free, planned, n.name)) for n in measured.nodes)
        all_planned = amounts.add(*(shape for _, shape in planned))
        line = pool.spec.get("line") or {}
        closed_until_s, why_closed = _back_off(pool.name, jobs, now_s)
        if measured.limit is not None and not any(
            is_member(pool, node) and is_ready(node) for node in self._nodes.list()
        ):
            closed_until_s, why_closed = now_s + _NOT_READY_S, "has no ready node"
        return PoolState(
            name=pool.name,
            kind=pool.spec.get("kind", "own"),
            nodes=nodes,
            limit=measured.limit,
            limit_free=amounts.subtract(measured.free, all_planned) if measured.limit is not None else {},
            price=card(pool.spec),
            line_price_per_gb=Decimal(str(line.get("pricePerGB") or 0)),
            line_bytes_per_s=parse_bandwidth_bytes_per_s(line["bandwidth"]) if line.get("bandwidth") else None,
            closed_until_s=closed_until_s,
            why_closed=why_closed,
            order=order,
        )

    def _unbound(self, job: Doc[Any], pool: str) -> list[tuple[str, Amounts]]:
        """Return `(node, shape)` of a placed job's pods that no node accounts for yet."""
        placement = job.status["placement"]
        if placement["pool"] != pool:
            return []
        shapes = {shape["role"]: amounts.parse(shape.get("resources") or {}) for shape in placement.get("shape") or []}
        missing: list[tuple[str, Amounts]] = []
        for member in gang.members(job):
            name = gang.pod_name(job, placement["attempt"], member)
            pod = self._pods.get(Ref(job.namespace, name))
            is_counted = pod is not None and (
                pod.spec.get("nodeName") or pod.status.get("phase") in {"Succeeded", "Failed"}
            )
            if not is_counted:
                node = (placement.get("nodes") or {}).get(name, "")
                missing.append((node, amounts.add(shapes.get(member.role.name, {}), {"pods": 1})))
        return missing

    def _running(self, job: Doc[Any], jobs: Sequence[Doc[Any]]) -> Running | None:
        placement = job.status["placement"]
        shapes = {shape["role"]: amounts.parse(shape.get("resources") or {}) for shape in placement.get("shape") or []}
        by_node: dict[str, dict[str, int]] = {}
        for member in gang.members(job):
            name = gang.pod_name(job, placement["attempt"], member)
            pod = self._pods.get(Ref(job.namespace, name))
            if pod is not None and pod.status.get("phase") in {"Succeeded", "Failed"}:
                continue
            node = (pod.spec.get("nodeName") if pod is not None else "") or (placement.get("nodes") or {}).get(name, "")
            by_node[node] = amounts.add(by_node.get(node, {}), shapes.get(member.role.name, {}), {"pods": 1})
        if not by_node:
            return None
        attempt = (job.status.get("attempts") or [{}])[-1]
        start = attempt.get("startedAt") or placement.get("decidedAt")
        seconds, _ = terms.expected_duration(job, self._queue(job), jobs)
        return Running(
            key=str(job.ref),
            pool=placement["pool"],
            by_node=by_node,
            started_s=parse_time(start).timestamp() if start else self._clock.now().timestamp(),
            expected_duration_s=seconds,
        )

    def _gang(self, job: Doc[Any], pools: Sequence[Doc[Any]], jobs: Sequence[Doc[Any]], now_s: float) -> Gang:
        queue = self._queue(job)
        seconds, source = terms.expected_duration(job, queue, jobs)
        queued = job.status.get("queuedAt") or job.meta.get("creationTimestamp")
        missing = terms.missing_feature(job)  # the same in every pool
        return Gang(
            key=str(job.ref),
            queue=job.spec.get("queue") or "default",
            rank=terms.RANKS.get(job.spec.get("priority") or "preferred", 1),
            enqueued_s=parse_time(queued).timestamp() if queued else now_s,
            workers=tuple(Worker(role.name, role.replicas, gang.shape(role)) for role in gang.roles(job)),
            access={pool.name: self._access(job, pool, queue, missing) for pool in pools},
            expected_duration_s=seconds,
            duration_source=source,
            terms=terms.burst_terms(queue),
            not_before_s=_not_before_s(job),
        )

    def _access(self, job: Doc[Any], pool: Doc[Any], queue: Doc[Any] | None, missing: str) -> Access:
        wanted = job.spec.get("pools") or []
        if wanted and pool.name not in wanted:
            return Access(refusal=f"spec.pools names only {', '.join(wanted)}")
        if missing:
            return Access(refusal=missing, code="Unsupported")
        refusal = terms.queue_refusal(job, queue)
        if refusal:
            return Access(refusal=refusal)
        return self._data.access(job.namespace, gang.claims(job), pool)

    def _queue(self, job: Doc[Any]) -> Doc[Any] | None:
        return self._queues.get(Ref("", job.spec.get("queue") or "default"))

    # -- act -----------------------------------------------------------------------------------------------------------

    async def place(self, decision: Place) -> None:
        """Write the placement. A job that changed since the snapshot was taken is left for the next look."""
        job = self._jobs.get(_ref(decision.gang.key))
        if job is None or not is_waiting(job):
            return
        now = self._clock.now()
        body = {"metadata": {"resourceVersion": job.version}, "status": self._placed(job, decision, now)}
        try:
            written = await self._cluster.patch(TRAIN_JOB, job.ref, MergePatch(body), subresource="status")
        except (Conflict, NotFound):
            return
        self._cache.assume(written)
        await self._events.event(job, "Normal", "Placed", f"Placed on {decision.pool}. {decision.because}")

    def _placed(self, job: Doc[Any], decision: Place, now: dt.datetime) -> Json:
        attempt = max((a["attempt"] for a in job.status.get("attempts") or []), default=0) + 1
        names = [gang.pod_name(job, attempt, member) for member in gang.members(job)]
        sidecars = decision.gang.access[decision.pool].sidecars
        placement: Json = {
            "pool": decision.pool,
            "attempt": attempt,
            "shape": [_shape(worker, sidecars) for worker in decision.gang.workers],
            "decidedAt": format_time(now),
            "reason": "OwnCapacity" if decision.nodes else "Burst",
            "message": f"{decision.because} ({'; '.join(sentence(c) for c in decision.choices)})",
        }
        if decision.nodes:
            placement["nodes"] = dict(zip(names, decision.nodes, strict=True))
        conditions = set_condition(
            job.status.get("conditions"), "Admitted", "True", placement["reason"], decision.because, now, job.generation
        )
        return {"placement": placement, "conditions": conditions}

    async def hold(self, decision: Wait) -> None:
        """Note why the gang waits, when that is something new; figures that change by themselves are computed on read."""
        job = self._jobs.get(_ref(decision.gang.key))
        if job is None or not is_waiting(job):
            return
        known = find_condition(job, "Admitted") or {}
        is_known = known.get("status") == "False" and known.get("reason") == decision.code
        if is_known and (known.get("message") == decision.because or decision.code in _WITH_FIGURES):
            return
        conditions = set_condition(
            job.status.get("conditions"),
            "Admitted",
            "False",
            decision.code,
            decision.because,
            self._clock.now(),
            job.generation,
        )
        body = {"metadata": {"resourceVersion": job.version}, "status": {"conditions": conditions}}
        try:
            written = await self._cluster.patch(TRAIN_JOB, job.ref, MergePatch(body), subresource="status")
        except (Conflict, NotFound):
            return
        self._cache.assume(written)
        choices = "; ".join(sentence(choice) for choice in decision.choices)
        await self._events.event(job, "Normal", decision.code, f"Waits: {decision.because} ({choices})")


def is_waiting(job: Doc[Any]) -> bool:
    """Tell whether the scheduler may place the job: queued by the reconciler and without a placement."""
    status = job.status
    return (
        status.get("phase") == "Queued"
        and not status.get("placement")
        and not job.is_deleting
        and not job.spec.get("suspend")
    )


def is_placed(job: Doc[Any]) -> bool:
    """Tell whether the job holds, or is about to hold, resources of a pool."""
    return bool(job.status.get("placement")) and job.status.get("phase") not in {"Succeeded", "Failed"}


def _ref(key: str) -> Ref:
    namespace, _, name = key.partition("/")
    return Ref(namespace, name)


def _shape(worker: Worker, sidecars: Amounts) -> Json:
    taken = amounts.add(worker.shape, sidecars)
    resources = {
        name: format(amounts.in_whole(name, amount).normalize(), "f") for name, amount in taken.items() if amount
    }
    return {"role": worker.role, "replicas": worker.count, "resources": resources}


def _without(free: Amounts, planned: Sequence[tuple[str, Amounts]], node: str) -> dict[str, int]:
    return amounts.subtract(free, amounts.add(*(shape for name, shape in planned if name == node)))


def _not_before_s(job: Doc[Any]) -> float:
    """A job that failed by itself is tried again with growing pauses; one that lost its node at once."""
    failures = [a for a in job.status.get("attempts") or [] if a.get("outcome") == "Failed" and a.get("endedAt")]
    if not failures or (job.status.get("attempts") or [])[-1] is not failures[-1]:
        return 0.0
    pause_s = min(300.0, 10.0 * 2 ** (len(failures) - 1))
    return float(parse_time(failures[-1]["endedAt"]).timestamp() + pause_s)


def _back_off(pool: str, jobs: Sequence[Doc[Any]], now_s: float) -> tuple[float, str]:
    """Return until when a pool that could not start a gang is left alone, and why; derived from the jobs' histories."""
    ends = sorted(
        parse_time(attempt["endedAt"]).timestamp()
        for job in jobs
        for attempt in job.status.get("attempts") or []
        if attempt.get("pool") == pool and attempt.get("outcome") == "StartTimeout" and attempt.get("endedAt")
    )
    recent = [end for end in ends if now_s - end < 3600]
    if not recent:
        return 0.0, ""
    until_s = recent[-1] + _BACK_OFF_S * 2 ** min(len(recent) - 1, 5)
    return (until_s, f"could not start a gang {len(recent)}× in the last hour") if until_s > now_s else (0.0, "")


def start_timeout_s(pool: Doc[Any] | None) -> float:
    """Return how long a gang may take to start in a pool."""
    return parse_duration_s((pool.spec.get("startTimeout") if pool is not None else None) or "5m")
