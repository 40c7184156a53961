"""The wrapper's controller: observe one claim, plan, act."""

from __future__ import annotations

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.protocol import Cluster
from headrace.data.act import TellEvent, perform
from headrace.data.wrapper.observe import ClaimObserver
from headrace.data.wrapper.plan import plan
from headrace.spec.kind import Ref
from headrace.spec.kinds import DATASET, PERSISTENT_VOLUME_CLAIM, THIN_RUNTIME


def wrapper_controller(cluster: Cluster, cache: Cache, tell: TellEvent, clock: Clock) -> Controller:
    """Return the controller that wraps and unwraps claims. Its cache must hold claims, Datasets and ThinRuntimes."""
    observer = ClaimObserver(cache)

    async def reconcile(ref: Ref) -> Result:
        decided = plan(observer.observe(ref), clock.now())
        await perform(decided, cluster, cache, tell)
        return Result(decided.again_after_s)

    controller = Controller("data.wrapper", cache, reconcile)
    controller.watches(PERSISTENT_VOLUME_CLAIM)
    controller.watches(DATASET, observer.of_dataset)
    return controller.watches(THIN_RUNTIME, observer.of_runtime)
