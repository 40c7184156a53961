"""Carries out plans for TrainJobs: services, pods, deletions, status. All names are deterministic, all steps idempotent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import anyio

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Result
from headrace.cluster.events import Recorder
from headrace.cluster.protocol import Cluster, MergePatch
from headrace.errors import AlreadyExists, Denied, HeadraceError, InvalidSpec, NotFound
from headrace.jobs import gang, manifest
from headrace.jobs.dataplane import DataPlane
from headrace.jobs.gang import Member
from headrace.jobs.plan import Observed, Plan, plan
from headrace.jobs.workloads import start_timeout_s
from headrace.pods.worker import CodeSource
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import POD, POOL, SERVICE, TRAIN_JOB
from headrace.spec.names import JOB_LABEL

BY_JOB = "pods by job"
CodeUrls = Callable[[str, str], CodeSource]
"""`(namespace, digest)` → where that job's workers fetch the code."""


def index_pods_by_job(cache: Cache) -> None:
    """Register the index by which a job finds its pods. Call before the cache starts."""
    cache.add_index(
        POD, BY_JOB, lambda pod: [f"{pod.namespace}/{pod.labels[JOB_LABEL]}"] if JOB_LABEL in pod.labels else []
    )


class Jobs:
    """The reconciler of TrainJobs."""

    def __init__(
        self, cluster: Cluster, cache: Cache, data: DataPlane, clock: Clock, events: Recorder, code_urls: CodeUrls
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._data = data
        self._clock = clock
        self._events = events
        self._code_urls = code_urls
        self._jobs = cache.reader(TRAIN_JOB)
        self._pools = cache.reader(POOL)
        self._pods = cache.reader(POD)
        self._services = cache.reader(SERVICE)

    async def reconcile(self, ref: Ref) -> Result:
        """Bring one job a step further."""
        job = self._jobs.get(ref)
        if job is None:
            return Result()
        pool = self._pool(job)
        observed = Observed(job=job, pods=self._pods.by_index(BY_JOB, str(ref)), start_timeout_s=start_timeout_s(pool))
        step = plan(observed, self._clock.now())
        job = await self._write_status(job, step)
        for pod in step.delete:
            await self._delete(pod)
        if step.create:
            refusal = await self._create(job, pool, step.create)
            if refusal is not None:
                await self._refuse(job, refusal)
        for notice in step.notices:
            await self._events.event(job, notice.type, notice.reason, notice.message)
        return Result(again_after_s=step.again_after_s)

    def _pool(self, job: Doc[Any]) -> Doc[Any] | None:
        name = (job.status.get("placement") or {}).get("pool")
        return self._pools.get(Ref("", name)) if name else None

    async def _write_status(self, job: Doc[Any], step: Plan) -> Doc[Any]:
        if step.status == job.status:
            return job
        body = {"metadata": {"resourceVersion": job.version}, "status": changed(job.status, step.status)}
        written = await self._cluster.patch(TRAIN_JOB, job.ref, MergePatch(body), subresource="status")
        self._cache.assume(written)
        return written

    async def _create(self, job: Doc[Any], pool: Doc[Any] | None, missing: tuple[Member, ...]) -> HeadraceError | None:
        """Make the gang's missing pods; return the refusal when they cannot be made for this pool."""
        if pool is None:
            return InvalidSpec("The pool it was placed on is gone.", hint="It is queued again.", code="PoolGone")
        service = await self._service(job)
        port = int(service.spec["ports"][0]["port"])
        try:
            pods = [
                self._data.inject(manifest.pod(job, member, pool, port, self._code_urls), pool) for member in missing
            ]
        except (InvalidSpec, Denied) as error:
            return error
        async with anyio.create_task_group() as group:
            for pod in pods:
                group.start_soon(self._create_pod, pod)
        return None

    async def _create_pod(self, pod: Json) -> None:
        with contextlib.suppress(AlreadyExists):  # made before a crash, or by this call's retry
            self._cache.assume(await self._cluster.create(POD, pod))

    async def _service(self, job: Doc[Any]) -> Doc[Any]:
        known = self._services.get(Ref(job.namespace, gang.service_name(job)))
        if known is not None:
            return known
        taken = {port["port"] for service in self._services.list() for port in service.spec.get("ports") or []}
        body = manifest.service(job, manifest.free_port(job, taken))
        try:
            made = await self._cluster.create(SERVICE, body)
        except AlreadyExists:
            made = await self._cluster.get(SERVICE, Ref(job.namespace, gang.service_name(job)))
        self._cache.assume(made)
        return made

    async def _delete(self, pod: Doc[Any]) -> None:
        with contextlib.suppress(NotFound):
            await self._cluster.delete(POD, pod.ref, uid=pod.uid)

    async def _refuse(self, job: Doc[Any], refusal: HeadraceError) -> None:
        """End the attempt before it began: its pods cannot be made as the job is written."""
        attempts = [*(job.status.get("attempts") or [])]
        now = manifest.moment(self._clock)
        attempts[-1] = {
            **attempts[-1],
            "outcome": "Failed",
            "reason": refusal.code,
            "message": str(refusal),
            "endedAt": now,
        }
        body = {"metadata": {"resourceVersion": job.version}, "status": {"attempts": attempts}}
        self._cache.assume(await self._cluster.patch(TRAIN_JOB, job.ref, MergePatch(body), subresource="status"))
        await self._events.event(job, "Warning", refusal.code, str(refusal))


def changed(old: Json, new: Json) -> Json:
    """Return the merge patch from one status to the next: only what differs, None for what went."""
    patch = {key: value for key, value in new.items() if old.get(key) != value}
    for key, value in list(patch.items()):
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            patch[key] = {**changed(before, value)}
    return {**patch, **{key: None for key in old if key not in new}}
