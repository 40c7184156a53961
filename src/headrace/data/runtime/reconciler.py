"""The controller of Datasets and ThinRuntimes: observe one pair, plan, act. A key is the name both have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.protocol import Cluster
from headrace.data.act import Plan, TellEvent, in_one_write, perform
from headrace.data.runtime.observe import DatasetObserver
from headrace.data.runtime.plan import plan
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import (
    CONFIG_MAP,
    DATASET,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
)

WORKERS = 16
"""A reconcile is a handful of writes, one after another, and waits for the server most of its time."""


def runtime_controller(
    cluster: Cluster,
    cache: Cache,
    observer: DatasetObserver,
    tell: TellEvent,
    clock: Clock,
    *,
    further: Callable[[Doc[Any]], Plan] = lambda _dataset: Plan(),
) -> Controller:
    """Return the controller that configures Datasets and says how they are.

    Args:
        further: what is begun with a Dataset as it is about to be, so that it is not written twice.
    """

    async def reconcile(ref: Ref) -> Result:
        observed = observer.observe(ref)
        decided = plan(observed, clock.now())
        if observed.parts is not None:
            decided = in_one_write(decided, observed.parts.dataset, further)
        await perform(decided, cluster, cache, tell)
        return Result(decided.again_after_s)

    controller = Controller("data.runtime", cache, reconcile, workers=WORKERS)
    controller.watches(DATASET)
    controller.watches(THIN_RUNTIME)
    controller.watches(THIN_RUNTIME_PROFILE, observer.of_profile)
    controller.watches(PERSISTENT_VOLUME_CLAIM, observer.of_claim)
    controller.watches(PERSISTENT_VOLUME, observer.of_volume)
    controller.watches(SECRET, observer.of_secret)
    controller.watches(CONFIG_MAP, observer.of_config_map)
    return controller.watches(POD, observer.of_pod, when=_began_or_ended)


def _began_or_ended(old: Doc[Any] | None, new: Doc[Any] | None) -> bool:
    if old is None or new is None:
        return True
    return bool(old.status.get("phase") != new.status.get("phase"))
