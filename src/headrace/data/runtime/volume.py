"""The PersistentVolume and claim of a plain Dataset: mounting the claim of the Dataset's name is all a pod does.

As in Fluid, with our own driver. A wrapped Dataset has neither.
"""

from __future__ import annotations

from typing import Any

from headrace.data.runtime.config import access_modes
from headrace.ids import short_hash
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from headrace.spec.names import (
    CREATED_BY_ANNOTATION,
    CSI_ATTRIBUTE_DATASET,
    CSI_ATTRIBUTE_NAMESPACE,
    CSI_DRIVER,
    DATASET_ID_LABEL,
    DATASET_LABEL,
    FLUID_STORAGE_CLASS,
    MANAGED_BY_FLUID,
    STORAGE_REQUEST_ANNOTATION,
)

_DEFAULT_STORAGE = "100Pi"


def volume_name(dataset: Ref) -> str:
    """Return the PersistentVolume's name: Fluid's `<namespace>-<name>`, hashed where that could be two Datasets."""
    joined = f"{dataset.namespace}-{dataset.name}"
    return joined if joined.count("-") == 1 else f"{joined}-{short_hash(dataset.namespace, dataset.name)}"


def volume_body(dataset: Doc[Any]) -> Json:
    """Return the PersistentVolume of a Dataset. It has no owner, being of no namespace; the reconciler deletes it."""
    name = volume_name(dataset.ref)
    attributes = {CSI_ATTRIBUTE_DATASET: dataset.name, CSI_ATTRIBUTE_NAMESPACE: dataset.namespace}
    return {
        "apiVersion": PERSISTENT_VOLUME.api_version,
        "kind": PERSISTENT_VOLUME.name,
        "metadata": {
            "name": name,
            "labels": _labels(dataset),
            "annotations": {CREATED_BY_ANNOTATION: MANAGED_BY_FLUID},
        },
        "spec": {
            "accessModes": access_modes(dataset.raw),
            "capacity": {"storage": _storage(dataset)},
            "storageClassName": FLUID_STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {
                "apiVersion": PERSISTENT_VOLUME_CLAIM.api_version,
                "kind": PERSISTENT_VOLUME_CLAIM.name,
                "namespace": dataset.namespace,
                "name": dataset.name,
            },
            "csi": {"driver": CSI_DRIVER, "volumeHandle": name, "volumeAttributes": attributes},
        },
    }


def claim_body(dataset: Doc[Any]) -> Json:
    """Return the claim of a Dataset, owned by it."""
    return {
        "apiVersion": PERSISTENT_VOLUME_CLAIM.api_version,
        "kind": PERSISTENT_VOLUME_CLAIM.name,
        "metadata": {
            "name": dataset.name,
            "namespace": dataset.namespace,
            "labels": _labels(dataset),
            "annotations": {CREATED_BY_ANNOTATION: MANAGED_BY_FLUID},
            "ownerReferences": [dataset.owner_reference(block_deletion=False)],
        },
        "spec": {
            "accessModes": access_modes(dataset.raw),
            "resources": {"requests": {"storage": _storage(dataset)}},
            "storageClassName": FLUID_STORAGE_CLASS,
            "volumeName": volume_name(dataset.ref),
        },
    }


def names_dataset(volume: Doc[Any], dataset: Ref) -> bool:
    """Tell whether a PersistentVolume is that of this Dataset, by what its driver is told."""
    return named_dataset(volume) == dataset


def named_dataset(volume: Doc[Any]) -> Ref | None:
    """Return the Dataset whose mount a PersistentVolume is; None for other drivers' and a profile's own volumes."""
    csi = volume.spec.get("csi") or {}
    attributes = csi.get("volumeAttributes") or {}
    name = str(attributes.get(CSI_ATTRIBUTE_DATASET) or "")
    if csi.get("driver") != CSI_DRIVER or not name:
        return None
    return Ref(str(attributes.get(CSI_ATTRIBUTE_NAMESPACE) or ""), name)


def is_owned_by(claim: Doc[Any], dataset: Doc[Any]) -> bool:
    """Tell whether a claim was made for this Dataset."""
    return any(owner.get("uid") == dataset.uid for owner in claim.owners)


def owning_dataset(claim: Doc[Any]) -> str:
    """Return the name of the Dataset that made a claim for itself; empty for a user's claim."""
    kinds = {owner.get("kind"): str(owner.get("name", "")) for owner in claim.owners}
    return kinds.get("Dataset", "")


def _labels(dataset: Doc[Any]) -> dict[str, str]:
    joined = f"{dataset.namespace}-{dataset.name}"
    return {DATASET_LABEL: dataset.name, DATASET_ID_LABEL: joined if len(joined) <= 63 else dataset.uid}


def _storage(dataset: Doc[Any]) -> str:
    return dataset.annotations.get(STORAGE_REQUEST_ANNOTATION) or _DEFAULT_STORAGE
