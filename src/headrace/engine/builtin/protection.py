"""Claims in use and volumes in use are not deleted from under those who use them.

Admission puts the finalizers on (`admission.StorageProtection`); here they are taken off when nothing uses the object
any more. Source: Kubernetes `pkg/controller/volume/pvcprotection` and `pvprotection`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.engine.builtin.actions import NOTHING, Patch, Performer, Plan
from headrace.spec.core.pod import Pod
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD
from headrace.spec.names import PV_PROTECTION_FINALIZER, PVC_PROTECTION_FINALIZER

PODS_BY_CLAIM = "engine.claim"
"""Index of pods by `namespace/claim`."""


def plan_claim(claim: Doc[Any], pods: Sequence[Doc[Pod]]) -> Plan:
    """Release a claim that is being deleted and that no scheduled, unfinished pod uses."""
    if not claim.is_deleting or PVC_PROTECTION_FINALIZER not in claim.finalizers:
        return NOTHING
    if any(_is_using(pod) for pod in pods):
        return NOTHING
    return Plan((_without(claim, PVC_PROTECTION_FINALIZER),))


def plan_volume(volume: Doc[Any]) -> Plan:
    """Release a volume that is being deleted and not bound."""
    if not volume.is_deleting or PV_PROTECTION_FINALIZER not in volume.finalizers:
        return NOTHING
    if volume.status.get("phase") == "Bound":
        return NOTHING
    return Plan((_without(volume, PV_PROTECTION_FINALIZER),))


def claims_of(pod: Doc[Pod]) -> Iterable[Ref]:
    """Yield the claims a pod's volumes name."""
    for volume in pod.spec.get("volumes") or ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim:
            yield Ref(pod.namespace, claim)


def index_pods_by_claim(cache: Cache) -> None:
    """Index pods by the claims they use. Idempotent."""
    cache.add_index(POD, PODS_BY_CLAIM, lambda pod: map(str, claims_of(pod)))


def _is_using(pod: Doc[Pod]) -> bool:
    return bool(pod.spec.get("nodeName")) and pod.status.get("phase") not in {"Succeeded", "Failed"}


def _without(doc: Doc[Any], finalizer: str) -> Patch:
    left = [each for each in doc.finalizers if each != finalizer]
    return Patch(doc.kind, doc.ref, {"metadata": {"resourceVersion": doc.version, "finalizers": left or None}})


class Protection:
    """Reconciles claims and volumes that are being deleted."""

    def __init__(self, cache: Cache, performer: Performer) -> None:
        self._performer = performer
        index_pods_by_claim(cache)
        self._claims = cache.reader(PERSISTENT_VOLUME_CLAIM)
        self._volumes = cache.reader(PERSISTENT_VOLUME)
        self._pods = cache.reader(POD)
        claims = Controller("pvc-protection", cache, self._reconcile_claim, workers=1)
        volumes = Controller("pv-protection", cache, self._reconcile_volume, workers=1)
        self.controllers = [
            claims.watches(PERSISTENT_VOLUME_CLAIM).watches(POD, claims_of),
            volumes.watches(PERSISTENT_VOLUME),
        ]

    async def _reconcile_claim(self, ref: Ref) -> Result:
        claim = self._claims.get(ref)
        if claim is None:
            return Result()
        pods = self._pods.by_index(PODS_BY_CLAIM, str(ref))
        return await self._performer.perform(plan_claim(claim, pods))

    async def _reconcile_volume(self, ref: Ref) -> Result:
        volume = self._volumes.get(ref)
        return Result() if volume is None else await self._performer.perform(plan_volume(volume))
