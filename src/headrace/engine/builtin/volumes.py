"""The PVC binder and the local-path provisioner: claims meet volumes, volumes are made and reclaimed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.engine.builtin.actions import Performer
from headrace.engine.builtin.binding_plan import (
    Claim,
    ClaimObserved,
    Class,
    NeedsVolume,
    Volume,
    default_class,
    plan_claim,
)
from headrace.engine.builtin.volume_plan import VolumeObserved, failed, plan_provisioning, plan_volume
from headrace.errors import EngineFailed
from headrace.spec.kind import Ref
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS

_UNBOUND_CLAIMS = "engine.unbound"
_VOLUMES_BY_CLAIM = "engine.claim-ref"


class VolumeBinder:
    """Reconciles claims, one at a time, so that no two get one volume, and volumes.

    Args:
        directory: where local-path volumes are made; none is ever removed outside of it.
    """

    def __init__(self, cache: Cache, performer: Performer, directory: Path) -> None:
        self._performer = performer
        self._directory = directory
        cache.add_index(PERSISTENT_VOLUME_CLAIM, _UNBOUND_CLAIMS, lambda claim: ["yes"] if _is_unbound(claim) else [])
        cache.add_index(PERSISTENT_VOLUME, _VOLUMES_BY_CLAIM, lambda volume: map(str, _claim_of(volume)))
        self._claims = cache.reader(PERSISTENT_VOLUME_CLAIM)
        self._volumes = cache.reader(PERSISTENT_VOLUME)
        self._classes = cache.reader(STORAGE_CLASS)
        claims = Controller("claims", cache, self._reconcile_claim, workers=1)
        volumes = Controller("volumes", cache, self._reconcile_volume, workers=1)
        self.controllers = [
            claims.watches(PERSISTENT_VOLUME_CLAIM)
            .watches(PERSISTENT_VOLUME, self._claims_for)
            .watches(STORAGE_CLASS, self._unbound),
            volumes.watches(PERSISTENT_VOLUME).watches(PERSISTENT_VOLUME_CLAIM, self._volumes_of),
        ]

    async def _reconcile_claim(self, ref: Ref) -> Result:
        claim = self._claims.get(ref)
        if claim is None:
            return Result()
        observed = ClaimObserved(
            claim=claim,
            storage_class=self._classes.get(Ref("", claim.spec.get("storageClassName") or "")),
            volumes=self._volumes.list(),
            default_class=default_class(self._classes.list()),
        )
        decided = plan_claim(observed)
        if isinstance(decided, NeedsVolume):
            decided = plan_provisioning(claim, decided.storage_class, self._directory)
        return await self._performer.perform(decided)

    async def _reconcile_volume(self, ref: Ref) -> Result:
        volume = self._volumes.get(ref)
        if volume is None:
            return Result()
        claim = next((self._claims.get(claim) for claim in _claim_of(volume)), None)
        try:
            return await self._performer.perform(plan_volume(VolumeObserved(volume, claim), self._directory))
        except EngineFailed as error:  # its directory could not be removed; the controller tries again
            await self._performer.perform(failed(volume, error.what))
            raise

    def _claims_for(self, volume: Volume) -> Iterable[Ref]:
        """The claim a volume is for, or every claim that could want it."""
        named = list(_claim_of(volume))
        return named or self._unbound(volume)

    def _unbound(self, _: Volume | Class) -> Iterable[Ref]:
        return [claim.ref for claim in self._claims.by_index(_UNBOUND_CLAIMS, "yes")]

    def _volumes_of(self, claim: Claim) -> Iterable[Ref]:
        if claim.spec.get("volumeName"):
            yield Ref("", claim.spec["volumeName"])
        for volume in self._volumes.by_index(_VOLUMES_BY_CLAIM, str(claim.ref)):
            yield volume.ref


def _claim_of(volume: Volume) -> Iterable[Ref]:
    reference = volume.spec.get("claimRef")
    if reference:
        yield Ref(reference.get("namespace", ""), reference.get("name", ""))


def _is_unbound(claim: Claim) -> bool:
    return claim.status.get("phase") != "Bound"
