"""What a placed TrainJob's objects look like: the gang's headless Service and each worker's pod. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from headrace.clock import Clock, format_time
from headrace.ids import short_hash
from headrace.jobs import gang
from headrace.jobs.gang import Member
from headrace.jobs.rendezvous import Spot, variables
from headrace.pods import worker
from headrace.pods.worker import CodeSource, Place, Worker
from headrace.pools.capacity import node_selector, tolerations
from headrace.spec.headrace.trainjob import SecretKey
from headrace.spec.kind import Doc, Json
from headrace.spec.names import (
    ATTEMPT_LABEL,
    INDEX_LABEL,
    JOB_LABEL,
    POOL_LABEL,
    QUEUE_LABEL,
    ROLE_LABEL,
    SUBMITTED_BY_ANNOTATION,
)

_PORTS = range(20_000, 28_000)


def free_port(job: Doc[Any], taken: Collection[int]) -> int:
    """Return the gang's rendezvous port: the same for a job each time it is asked, and no other gang's."""
    start = int.from_bytes(short_hash(job.uid, length=4).encode(), "big")
    candidates = (_PORTS[(start + step) % len(_PORTS)] for step in range(len(_PORTS)))
    return next(port for port in candidates if port not in taken)


def service(job: Doc[Any], port: int) -> Json:
    """Return the headless Service by which the gang's workers have names before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": gang.service_name(job),
            "namespace": job.namespace,
            "labels": {JOB_LABEL: job.name},
            "ownerReferences": [job.owner_reference()],
        },
        "spec": {
            "clusterIP": "None",
            "selector": {JOB_LABEL: job.name},
            "publishNotReadyAddresses": True,
            "ports": [{"name": "rendezvous", "port": port}],
        },
    }


def pod(job: Doc[Any], member: Member, pool: Doc[Any], port: int, code_urls: Callable[[str, str], CodeSource]) -> Json:
    """Return one worker's pod for `pool`, before data is injected. Raises Unsupported for a framework not done yet."""
    placement = job.status["placement"]
    attempt = placement["attempt"]
    name = gang.pod_name(job, attempt, member)
    digest = (job.spec.get("code") or {}).get("archive")
    checkpoint = job.spec.get("checkpoint") or {}
    shape = gang.shape(member.role)
    what = Worker(
        name=name,
        namespace=job.namespace,
        labels={
            JOB_LABEL: job.name,
            ATTEMPT_LABEL: str(attempt),
            ROLE_LABEL: member.role.name,
            INDEX_LABEL: str(member.index),
            POOL_LABEL: pool.name,
            QUEUE_LABEL: job.spec.get("queue") or "default",
        },
        annotations={key: value for key, value in job.annotations.items() if key == SUBMITTED_BY_ANNOTATION},
        owner=job.owner_reference(),
        command=member.role.command,
        image=member.role.image,
        env=_environment(job, member, pool, port),
        resources=shape,
        shm_bytes=int(member.role.shm_bytes),
        mounts=job.spec.get("mounts") or [],
        subdomain=gang.service_name(job),
        grace_s=int(checkpoint.get("graceSeconds", 30)),
        stop_signal=checkpoint.get("signal", "SIGTERM"),
    )
    gpus = pool.spec.get("gpus") or {}
    models = {name.removeprefix("gpu/") for name in shape if name.startswith("gpu/")}
    where = Place(
        node_selector=node_selector(pool),
        tolerations=tolerations(pool),
        node=(placement.get("nodes") or {}).get(name, ""),
        gpu_resources={f"gpu/{model}": gpu["resource"] for model, gpu in gpus.items() if gpu.get("resource")},
        annotations={k: v for m in models for k, v in (gpus.get(m, {}).get("podAnnotations") or {}).items()},
        labels={k: v for m in models for k, v in (gpus.get(m, {}).get("podLabels") or {}).items()},
    )
    return worker.build(what, where, code_urls(job.namespace, digest) if digest else None)


def _environment(job: Doc[Any], member: Member, pool: Doc[Any], port: int) -> list[Json]:
    """Return the worker's environment: the user's own wins, the rendezvous is not theirs to change."""
    leader = next(gang.members(job))
    attempt = job.status["placement"]["attempt"]
    gpus = sum(amount for name, amount in gang.shape(member.role).items() if name.startswith("gpu/"))
    spot = Spot(
        job=job.name,
        attempt=attempt,
        pool=pool.name,
        role=member.role.name,
        index=member.index,
        rank=member.rank,
        size=sum(role.replicas for role in gang.roles(job)),
        master=f"{gang.pod_name(job, attempt, leader)}.{gang.service_name(job)}",
        port=port,
        processes=max(1, gpus),
    )
    ours = variables(job.spec.get("framework") or "none", spot)
    theirs = [_variable(name, value) for name, value in member.role.env.items() if name not in ours]
    return [*theirs, *({"name": name, "value": value} for name, value in ours.items())]


def _variable(name: str, value: str | SecretKey) -> Json:
    if isinstance(value, SecretKey):
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": value.secret, "key": value.key}}}
    return {"name": name, "value": value}


def moment(clock: Clock) -> str:
    return format_time(clock.now())
