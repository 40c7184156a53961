"""Says of every DataLoad and DataProcess that this version does not carry it out: Failed, with the reason.

Fluid fails DataLoad on ThinRuntime too, with an event only. Nothing waits for what will never come.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.protocol import Cluster
from headrace.data.act import Plan, Tell, TellEvent, perform
from headrace.data.conditions import status_patch
from headrace.spec.conditions import set_condition
from headrace.spec.kind import Doc, Kind, Ref
from headrace.spec.kinds import DATA_LOAD, DATA_PROCESS

_SENTENCES = {
    DATA_LOAD.name: "This version does not warm caches. Clients fetch what is read; to warm one, read the files once "
    "in a job.",
    DATA_PROCESS.name: "This version does not run DataProcess. Run the same pod or script as a TrainJob that mounts "
    "the claim.",
}


def operation_controllers(cluster: Cluster, cache: Cache, tell: TellEvent, clock: Clock) -> list[Controller]:
    """Return one controller a kind."""
    return [_controller(kind, cluster, cache, tell, clock) for kind in (DATA_LOAD, DATA_PROCESS)]


def plan(operation: Doc[Any] | None, now: dt.datetime) -> Plan:
    """Return what says it, once."""
    if operation is None or operation.is_deleting:
        return Plan()
    sentence = _SENTENCES[operation.kind.name]
    conditions = set_condition(operation.status.get("conditions"), "Failed", "True", "Unsupported", sentence, now)
    wanted = {"phase": "Failed", "conditions": conditions, "observedGeneration": operation.generation}
    patch = status_patch(operation, wanted)
    return Plan((patch, Tell(operation, "Warning", "Unsupported", sentence))) if patch is not None else Plan()


def _controller(kind: Kind[Any], cluster: Cluster, cache: Cache, tell: TellEvent, clock: Clock) -> Controller:
    reader = cache.reader(kind)

    async def reconcile(ref: Ref) -> Result:
        await perform(plan(reader.get(ref), clock.now()), cluster, cache, tell)
        return Result()

    return Controller(f"data.{kind.singular}", cache, reconcile, workers=1).watches(kind)
