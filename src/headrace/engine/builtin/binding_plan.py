"""Which volume a claim gets, and what becomes of a volume: the decisions of the PVC binder. Pure.

Sources: Kubernetes `pkg/controller/volume/persistentvolume` (syncUnboundClaim, syncBoundClaim, syncVolume) and its
`volume.FindMatchingVolume`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from headrace.engine.builtin.actions import NOTHING, Action, Patch, Plan, Tell
from headrace.spec.core.meta import LabelSelector
from headrace.spec.core.node import Node
from headrace.spec.core.storage import PersistentVolume, PersistentVolumeClaim, StorageClass
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from headrace.spec.names import (
    BIND_COMPLETED_ANNOTATION,
    BOUND_BY_CONTROLLER_ANNOTATION,
    DEFAULT_STORAGE_CLASS_ANNOTATION,
    PROVISIONED_BY_ANNOTATION,
    SELECTED_NODE_ANNOTATION,
)
from headrace.spec.selectors import matches_node, matches_selector
from headrace.units import parse_quantity

PROVISIONER = "headrace.io/local-path"
"""Makes volumes that are directories of this machine. Both nodes of an embedded engine see them."""

Claim = Doc[PersistentVolumeClaim]
Volume = Doc[PersistentVolume]
Class = Doc[StorageClass]


class ClaimObserved(msgspec.Struct, frozen=True):
    """One claim, its class (None where it names none or one that is not there), and all volumes."""

    claim: Claim
    storage_class: Class | None
    volumes: Sequence[Volume]
    default_class: str = ""


class NeedsVolume(msgspec.Struct, frozen=True):
    """The claim waits for a volume of this class to be made."""

    storage_class: Class


def plan_claim(observed: ClaimObserved) -> Plan | NeedsVolume:
    """Decide about one claim: bind it, have a volume made for it, or say what it waits for."""
    claim = observed.claim
    if claim.annotations.get(BIND_COMPLETED_ANNOTATION):
        return _bound_claim(observed)
    if claim.spec.get("volumeName"):
        return _claim_of_a_named_volume(observed)
    if claim.spec.get("storageClassName") is None and observed.default_class:
        return Plan((_patch_claim(claim, {"spec": {"storageClassName": observed.default_class}}),))
    found = best_volume(claim, observed.volumes, is_delayed=is_delayed(observed.storage_class))
    if found is not None:
        return Plan(tuple(_bind(claim, found)))
    return _wait(observed)


def best_volume(
    claim: Claim, volumes: Iterable[Volume], *, is_delayed: bool = False, node: Doc[Node] | None = None
) -> Volume | None:
    """Return the volume that was reserved for the claim, else the smallest that fits; None where there is none.

    Args:
        is_delayed: the scheduler chooses among the free volumes, so without a node only a reserved one counts.
        node: only volumes that can be reached from it.
    """
    candidates: list[tuple[int, Decimal, str, Volume]] = []
    for volume in volumes:
        reference = volume.spec.get("claimRef")
        if reference and not is_reserved_for(volume, claim):
            continue
        if volume.is_deleting or mismatch(claim, volume, with_class=not reference):
            continue
        reaches = node is None or is_reachable(volume, node)
        if reference:
            return volume if reaches else None
        if (is_delayed and node is None) or not reaches or not _is_free_and_wanted(claim, volume):
            continue
        candidates.append((len(volume.spec.get("accessModes") or ()), _size(volume), volume.name, volume))
    return min(candidates, default=(0, Decimal(0), "", None), key=lambda each: each[:3])[3]


def mismatch(claim: Claim, volume: Volume, *, with_class: bool = True) -> str:
    """Return why a claim may not have a volume, whoever asks; an empty text when it may.

    A volume that was reserved for the claim by hand may be of another class (`with_class`).
    """
    wanted = (claim.spec.get("resources") or {}).get("requests", {}).get("storage", "0")
    if _size(volume) < parse_quantity(wanted):
        return "requested PV is too small"
    if volume.spec.get("volumeMode", "Filesystem") != claim.spec.get("volumeMode", "Filesystem"):
        return "incompatible volumeMode"
    if with_class and (volume.spec.get("storageClassName") or "") != (claim.spec.get("storageClassName") or ""):
        return "storageClassName does not match"
    if not set(claim.spec.get("accessModes") or ()) <= set(volume.spec.get("accessModes") or ()):
        return "incompatible accessMode"
    return ""


def is_reserved_for(volume: Volume, claim: Claim) -> bool:
    """Tell whether a volume's claimRef means this claim; without a uid, whichever claim has the name."""
    reference = volume.spec.get("claimRef") or {}
    return (reference.get("namespace"), reference.get("name")) == claim.ref and reference.get("uid") in {
        None,
        "",
        claim.uid,
    }


def is_reachable(volume: Volume, node: Doc[Node]) -> bool:
    """Tell whether a volume's node affinity allows a node."""
    affinity = volume.view.spec.node_affinity
    return affinity is None or affinity.required is None or matches_node(affinity.required, node.view)


def is_delayed(storage_class: Class | None) -> bool:
    """Tell whether a class leaves the choice of a volume to the scheduler, which knows the pod's node."""
    return storage_class is not None and storage_class.raw.get("volumeBindingMode") == "WaitForFirstConsumer"


def default_class(classes: Iterable[Class]) -> str:
    """Return the name of the default class: of several, the newest, as in Kubernetes; empty when there is none."""
    marked = [each for each in classes if each.annotations.get(DEFAULT_STORAGE_CLASS_ANNOTATION) == "true"]
    newest = max(marked, default=None, key=lambda each: (each.meta.get("creationTimestamp", ""), each.name))
    return newest.name if newest is not None else ""


def _claim_of_a_named_volume(observed: ClaimObserved) -> Plan:
    claim, name = observed.claim, observed.claim.spec["volumeName"]
    volume = next((volume for volume in observed.volumes if volume.name == name), None)
    if volume is None:
        return Plan((*_phase(claim, "Pending"), _failed(claim, f'volume "{name}" not found')))
    if not volume.spec.get("claimRef"):
        why = mismatch(claim, volume)
        if why:
            message = f'Cannot bind to requested volume "{name}": {why}'
            return Plan((*_phase(claim, "Pending"), Tell(claim, "Warning", "VolumeMismatch", message)))
        return Plan(tuple(_bind(claim, volume)))
    if is_reserved_for(volume, claim):
        return Plan(tuple(_bind(claim, volume)))
    message = f'volume "{name}" already bound to a different claim.'
    return Plan((*_phase(claim, "Pending"), _failed(claim, message)))


def _bound_claim(observed: ClaimObserved) -> Plan:
    claim, name = observed.claim, observed.claim.spec.get("volumeName", "")
    volume = next((volume for volume in observed.volumes if volume.name == name), None)
    if volume is None:
        if claim.status.get("phase") == "Lost":
            return NOTHING
        message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        return Plan((*_phase(claim, "Lost"), Tell(claim, "Warning", "ClaimLost", message)))
    if volume.spec.get("claimRef") and not is_reserved_for(volume, claim):
        if claim.status.get("phase") == "Lost":
            return NOTHING
        message = "Two claims are bound to the same volume, this one is bound incorrectly"
        return Plan((*_phase(claim, "Lost"), Tell(claim, "Warning", "ClaimMisbound", message)))
    wanted = claim.spec["resources"]["requests"]["storage"]
    if volume.annotations.get(PROVISIONED_BY_ANNOTATION) == PROVISIONER and _size(volume) < parse_quantity(wanted):
        # A directory has no size of its own, so growing it (admission has allowed it) is to say so.
        return Plan((_patch_volume(volume, {"spec": {"capacity": {"storage": wanted}}}),))
    return Plan(tuple(_bind(claim, volume)))


def _wait(observed: ClaimObserved) -> Plan | NeedsVolume:
    claim, storage_class = observed.claim, observed.storage_class
    pending = _phase(claim, "Pending")
    wanted = claim.spec.get("storageClassName") or ""
    if not wanted:
        message = "no persistent volumes available for this claim and no storage class is set"
        return Plan((*pending, _failed(claim, message)))
    if storage_class is None:
        message = f'storageclass.storage.k8s.io "{wanted}" not found'
        return Plan((*pending, Tell(claim, "Warning", "ProvisioningFailed", message)))
    if is_delayed(storage_class) and not claim.annotations.get(SELECTED_NODE_ANNOTATION):
        message = "waiting for first consumer to be created before binding"
        return Plan((*pending, Tell(claim, "Normal", "WaitForFirstConsumer", message)))
    return NeedsVolume(storage_class)


def _bind(claim: Claim, volume: Volume) -> Iterable[Action]:
    """Volume first, claim second, each spec before its status: whoever is interrupted finds out what was meant."""
    reference = volume.spec.get("claimRef") or {}
    if reference.get("uid") != claim.uid:
        yield _patch_volume(volume, reserved(claim, by_controller=not reference))
    if volume.status.get("phase") != "Bound":
        yield Patch(PERSISTENT_VOLUME, volume.ref, {"status": {"phase": "Bound"}}, "status")
    annotations = {}
    if not claim.annotations.get(BIND_COMPLETED_ANNOTATION):
        annotations[BIND_COMPLETED_ANNOTATION] = "yes"
        if not claim.spec.get("volumeName"):
            annotations[BOUND_BY_CONTROLLER_ANNOTATION] = "yes"
    if claim.spec.get("volumeName") != volume.name or annotations:
        body = {"metadata": {"annotations": annotations}, "spec": {"volumeName": volume.name}}
        yield _patch_claim(claim, body)
    status = {
        "phase": "Bound",
        "accessModes": volume.spec.get("accessModes") or [],
        "capacity": {"storage": (volume.spec.get("capacity") or {}).get("storage", "0")},
    }
    if any(claim.status.get(key) != value for key, value in status.items()):
        yield Patch(PERSISTENT_VOLUME_CLAIM, claim.ref, {"status": status}, "status")


def reserved(claim: Claim, *, by_controller: bool) -> Json:
    """Return the patch that reserves a volume for a claim."""
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": claim.namespace,
        "name": claim.name,
        "uid": claim.uid,
        "resourceVersion": claim.version,
    }
    body: Json = {"spec": {"claimRef": reference}}
    if by_controller:
        body["metadata"] = {"annotations": {BOUND_BY_CONTROLLER_ANNOTATION: "yes"}}
    return body


def _is_free_and_wanted(claim: Claim, volume: Volume) -> bool:
    if volume.status.get("phase") != "Available":
        return False
    selector = claim.spec.get("selector")
    return selector is None or matches_selector(msgspec.convert(selector, LabelSelector), volume.labels)


def _phase(claim: Claim, phase: str) -> Iterable[Action]:
    if claim.status.get("phase") != phase:
        yield Patch(PERSISTENT_VOLUME_CLAIM, claim.ref, {"status": {"phase": phase}}, "status")


def _failed(claim: Claim, message: str) -> Tell:
    return Tell(claim, "Normal", "FailedBinding", message)


def _patch_claim(claim: Claim, body: Json) -> Patch:
    return Patch(PERSISTENT_VOLUME_CLAIM, claim.ref, _compared(claim, body))


def _patch_volume(volume: Volume, body: Json) -> Patch:
    return Patch(PERSISTENT_VOLUME, volume.ref, _compared(volume, body))


def _compared(doc: Doc[Any], body: Json) -> Json:
    return body | {"metadata": (body.get("metadata") or {}) | {"resourceVersion": doc.version}}


def _size(volume: Volume) -> Decimal:
    return parse_quantity((volume.spec.get("capacity") or {}).get("storage", "0"))
