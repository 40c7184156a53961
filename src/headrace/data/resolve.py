"""From a claim to the Dataset behind it: for jobs before placement, for injection, for probes.

One question, asked the same way everywhere, so that nobody schedules what injection then refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.cluster.cache import Cache
from headrace.data.client import ResolvedDataset
from headrace.data.conditions import BOUND, CLAIM_DATASET_READY
from headrace.data.runtime.judge import Verdict, judge
from headrace.data.runtime.observe import DatasetObserver
from headrace.data.runtime.pools import allowed_pools
from headrace.data.runtime.volume import owning_dataset
from headrace.data.state import CLAIM_NOT_SHAREABLE, DatasetState
from headrace.data.verify.size import parse_size
from headrace.data.wrapper.objects import belongs_to, dataset_ref, wanted_profile
from headrace.errors import InvalidSpec, NotFound, Unavailable
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import DATASET, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from headrace.spec.names import RUNTIME_PROFILE_LABEL

_WAITING = {"RuntimeNotFound", "ProfileNotFound", "ClaimNotFound", "ClaimPending"}
"""Reasons that may pass without anybody changing the claim or the Dataset."""


class Resolver:
    """Answers from the cache, without waiting."""

    def __init__(self, cache: Cache, observer: DatasetObserver) -> None:
        self._observer = observer
        self._claims = cache.reader(PERSISTENT_VOLUME_CLAIM)
        self._volumes = cache.reader(PERSISTENT_VOLUME)
        self._datasets = cache.reader(DATASET)

    def dataset(self, claim: Ref) -> ResolvedDataset | None:
        """Return the dataset behind a claim; None for an ordinary claim, which only its own driver can mount.

        Raises:
            NotFound: there is no such claim.
            InvalidSpec, Unavailable: it is shared, but cannot be had, or cannot be had yet; the sentence says why.
        """
        doc = self._claims.get(claim)
        if doc is None:
            raise NotFound(f"There is no claim {claim}.", hint="Make it, or correct the name.")
        behind = self._behind(doc)
        if behind is None:
            return None
        verdict = self._verdict(doc, behind)
        if verdict.resolved is not None:
            return verdict.resolved
        error = Unavailable if verdict.reason in _WAITING or verdict.status == "Unknown" else InvalidSpec
        raise error(f"Claim {claim} is shared as Dataset {behind}, which is not ready: {verdict.message}")

    def is_shared(self, claim: Ref) -> bool:
        """Tell whether a claim is there and a Dataset stands, or is to stand, behind it."""
        doc = self._claims.get(claim)
        return doc is not None and self._behind(doc) is not None

    def allowed_pools(self, claim: Ref) -> frozenset[str] | None:
        """Return the only pools that a claim may go to; None where nobody says anything, or there is no such claim."""
        doc = self._claims.get(claim)
        behind = self._behind(doc) if doc is not None else None
        return allowed_pools(doc, self._datasets.get(behind) if behind is not None else None)

    def is_datasets_own(self, claim: Ref) -> bool:
        """Tell whether a claim is there and a plain Dataset made it for itself."""
        doc = self._claims.get(claim)
        return doc is not None and bool(owning_dataset(doc))

    def datasets_of(self, pod: Json) -> Mapping[str, ResolvedDataset]:
        """Return the datasets of a pod's claims, by claim; ordinary and missing claims are left out.

        Raises InvalidSpec or Unavailable for a shared claim that cannot be had.
        """
        namespace = str((pod.get("metadata") or {}).get("namespace", ""))
        found = {}
        for name in claims_mounted(pod):
            if self._claims.get(Ref(namespace, name)) is None:
                continue
            dataset = self.dataset(Ref(namespace, name))
            if dataset is not None:
                found[name] = dataset
        return found

    def state(self, claim: Ref) -> DatasetState:
        """Return what placement may know of a claim; never raises."""
        doc = self._claims.get(claim)
        if doc is None:
            message = f"There is no claim {claim}. Make it, or correct the name."
            return DatasetState(claim=str(claim), reason="ClaimNotFound", message=message)
        behind = self._behind(doc)
        if behind is None:
            return self._ordinary(doc)
        verdict = self._verdict(doc, behind)
        dataset = self._datasets.get(behind)
        status = dataset.status if dataset is not None else {}
        pools = status.get("pools") or []
        return DatasetState(
            claim=str(claim),
            dataset=str(behind),
            is_shared=True,
            is_ready=verdict.resolved is not None,
            reason="" if verdict.resolved is not None else verdict.reason,
            message="" if verdict.resolved is not None else f"Claim {claim}: {verdict.message}",
            pools=allowed_pools(doc, dataset),
            verified_pools=frozenset(entry["pool"] for entry in pools if entry.get("verified") == "True"),
            failed_pools=tuple(
                (entry["pool"], entry.get("message", "")) for entry in pools if entry.get("verified") == "False"
            ),
            read_only=verdict.resolved is not None and verdict.resolved.read_only,
            access_modes=tuple(doc.spec.get("accessModes") or ()),
            size_bytes=parse_size(status.get("ufsTotal")),
            cached_bytes=parse_size((status.get("cacheStates") or {}).get("cached")),
        )

    def _behind(self, claim: Doc[Any]) -> Ref | None:
        """Return the Dataset behind a claim: its own maker, or the one that the label asks for."""
        maker = owning_dataset(claim)
        if maker:
            return Ref(claim.namespace, maker)
        return dataset_ref(claim.ref) if wanted_profile(claim) is not None else None

    def _verdict(self, claim: Doc[Any], behind: Ref) -> Verdict:
        parts = self._observer.parts(behind)
        if parts is None or parts.dataset.is_deleting:
            return _not_yet("Its Dataset is not there yet.")
        if not owning_dataset(claim) and not belongs_to(parts.dataset, claim):
            condition = find_condition(claim, CLAIM_DATASET_READY) or {}
            return _not_yet(str(condition.get("message") or "Its Dataset is being replaced."))
        verdict = judge(parts)
        if verdict.resolved is not None and parts.dataset.status.get("phase") != BOUND:
            return _not_yet("It is being set up.")
        return verdict

    def _ordinary(self, claim: Doc[Any]) -> DatasetState:
        volume = self._volumes.get(Ref("", str(claim.spec.get("volumeName") or "")))
        return DatasetState(
            claim=str(claim.ref),
            is_ready=claim.status.get("phase") != "Lost",
            reason=CLAIM_NOT_SHAREABLE,
            message=f"Claim {claim.ref} has no label {RUNTIME_PROFILE_LABEL}, so it stays on nodes with its own driver. "
            f"To share it: kubectl label pvc {claim.name} -n {claim.namespace} {RUNTIME_PROFILE_LABEL}=PROFILE.",
            pools=allowed_pools(claim),
            access_modes=tuple(claim.spec.get("accessModes") or ()),
            needs_driver=volume is not None and "csi" in volume.spec,
        )


def claims_mounted(pod: Json) -> list[str]:
    """Return the claims that a pod's volumes name, each once."""
    sources = [volume.get("persistentVolumeClaim") or {} for volume in (pod.get("spec") or {}).get("volumes") or []]
    return list(dict.fromkeys(str(source["claimName"]) for source in sources if source.get("claimName")))


def _not_yet(message: str) -> Verdict:
    return Verdict(phase="Pending", status="Unknown", reason="DatasetNotReady", message=message)
