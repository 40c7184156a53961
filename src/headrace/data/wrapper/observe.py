"""Reads one claim and what stands behind it from the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.cluster.cache import Cache
from headrace.data.runtime.config import claims_of
from headrace.data.runtime.volume import owning_dataset
from headrace.data.wrapper.objects import dataset_ref, is_ours
from headrace.data.wrapper.plan import Observed
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import DATASET, PERSISTENT_VOLUME_CLAIM, THIN_RUNTIME, THIN_RUNTIME_PROFILE


class ClaimObserver:
    """Reads claims, and says which claim a changed Dataset or ThinRuntime stands behind."""

    def __init__(self, cache: Cache) -> None:
        self._claims = cache.reader(PERSISTENT_VOLUME_CLAIM)
        self._datasets = cache.reader(DATASET)
        self._runtimes = cache.reader(THIN_RUNTIME)
        self._profiles = cache.reader(THIN_RUNTIME_PROFILE)

    def observe(self, ref: Ref) -> Observed:
        """Return the claim and the Dataset and ThinRuntime of the name that its own have."""
        claim = self._claims.get(ref)
        behind = dataset_ref(ref)
        return Observed(
            claim=claim,
            dataset=self._datasets.get(behind),
            runtime=self._runtimes.get(behind),
            profiles=tuple(sorted(profile.name for profile in self._profiles.list())),
            owner=owning_dataset(claim) if claim is not None else "",
        )

    @staticmethod
    def of_dataset(dataset: Doc[Any]) -> Iterator[Ref]:
        """The claim it wraps, if the wrapper made it or its name is in the way."""
        yield from (Ref(dataset.namespace, claim) for claim in claims_of(dataset.raw))

    def of_runtime(self, runtime: Doc[Any]) -> Iterator[Ref]:
        """The claim behind which it stands: the one that owns it."""
        if is_ours(runtime):
            kinds = {owner.get("kind"): str(owner.get("name", "")) for owner in runtime.owners}
            if PERSISTENT_VOLUME_CLAIM.name in kinds:
                yield Ref(runtime.namespace, kinds[PERSISTENT_VOLUME_CLAIM.name])
