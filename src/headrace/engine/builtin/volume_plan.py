"""Volumes' phases, the local-path provisioner, and reclaiming: decisions about one volume at a time. Pure.

Sources: Kubernetes `pv_controller.go` (syncVolume, reclaimVolume); rancher's local-path-provisioner for the shape of
the volumes it makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from headrace.engine.builtin.actions import (
    NOTHING,
    Action,
    Create,
    Delete,
    MakeDirectory,
    Patch,
    Plan,
    RemoveDirectory,
    Tell,
)
from headrace.engine.builtin.binding_plan import PROVISIONER, Claim, Class, Volume
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from headrace.spec.names import (
    BOUND_BY_CONTROLLER_ANNOTATION,
    PROVISIONED_BY_ANNOTATION,
    PROVISIONER_ANNOTATION,
)

__all__ = ["PROVISIONER", "VolumeObserved", "failed", "plan_provisioning", "plan_volume"]


class VolumeObserved(msgspec.Struct, frozen=True):
    """One volume, and the claim of the name its claimRef has (another uid included), None where there is none."""

    volume: Volume
    claim: Claim | None


def plan_volume(observed: VolumeObserved, directory: Path) -> Plan:
    """Decide about one volume: its phase, or its end. `directory` holds all local-path volumes."""
    volume = observed.volume
    reference = volume.spec.get("claimRef")
    if not reference or not reference.get("uid"):
        return Plan(tuple(_phase(volume, "Available")))
    claim = observed.claim
    if claim is None or claim.uid != reference["uid"]:
        return _released(volume, directory)
    chosen = claim.spec.get("volumeName")
    if not chosen:
        return NOTHING  # the claim is about to be bound to it
    if chosen == volume.name:
        return Plan(tuple(_phase(volume, "Bound")))
    if _is_ours(volume) and volume.spec.get("persistentVolumeReclaimPolicy") == "Delete":
        return _released(volume, directory)
    if volume.annotations.get(BOUND_BY_CONTROLLER_ANNOTATION):
        body = {"metadata": {"annotations": {BOUND_BY_CONTROLLER_ANNOTATION: None}}, "spec": {"claimRef": None}}
        return Plan((Patch(PERSISTENT_VOLUME, volume.ref, body),))
    return Plan((Patch(PERSISTENT_VOLUME, volume.ref, {"spec": {"claimRef": {"uid": None}}}),))


def plan_provisioning(claim: Claim, storage_class: Class, directory: Path) -> Plan:
    """Make a volume for a claim, if its class is ours; say who will, if it is not."""
    provisioner = storage_class.raw.get("provisioner", "")
    marked: list[Action] = []
    if claim.annotations.get(PROVISIONER_ANNOTATION) != provisioner:
        body = {"metadata": {"annotations": {PROVISIONER_ANNOTATION: provisioner}}}
        marked.append(Patch(PERSISTENT_VOLUME_CLAIM, claim.ref, body))
    if provisioner != PROVISIONER:
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by "
            "the system administrator. If volume creation is delayed, please verify that the provisioner is running "
            "and correctly registered."
        )
        return Plan((*marked, Tell(claim, "Normal", "ExternalProvisioning", message)))
    why = _refusal(claim)
    if why:
        message = f'failed to provision volume with StorageClass "{storage_class.name}": {why}'
        return Plan((*marked, Tell(claim, "Warning", "ProvisioningFailed", message)))
    volume = _local_path_volume(claim, storage_class, directory)
    name = volume["metadata"]["name"]
    return Plan(
        (
            *marked,
            MakeDirectory(Path(volume["spec"]["hostPath"]["path"])),
            Create(PERSISTENT_VOLUME, volume),
            Tell(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}"),
        )
    )


def _local_path_volume(claim: Claim, storage_class: Class, directory: Path) -> Json:
    spec: Json = {
        "capacity": {"storage": claim.spec["resources"]["requests"]["storage"]},
        "accessModes": claim.spec.get("accessModes") or [],
        "persistentVolumeReclaimPolicy": storage_class.raw.get("reclaimPolicy", "Delete"),
        "storageClassName": storage_class.name,
        "volumeMode": "Filesystem",
        "hostPath": {
            "path": str(directory / f"{claim.namespace}_{claim.name}_{claim.uid[:8]}"),
            "type": "DirectoryOrCreate",
        },
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace,
            "name": claim.name,
            "uid": claim.uid,
            "resourceVersion": claim.version,
        },
    }
    if storage_class.raw.get("mountOptions"):
        spec["mountOptions"] = storage_class.raw["mountOptions"]
    annotations = {PROVISIONED_BY_ANNOTATION: PROVISIONER}
    return {"metadata": {"name": f"pvc-{claim.uid}", "annotations": annotations}, "spec": spec}


def _refusal(claim: Claim) -> str:
    """Why a directory cannot be what the claim asks for; an empty text when it can."""
    if claim.spec.get("volumeMode") == "Block":
        return "local-path volumes are directories; ask for volumeMode Filesystem"
    if claim.spec.get("selector"):
        return "claim.Spec.Selector is not supported"
    return ""


def _released(volume: Volume, directory: Path) -> Plan:
    """The claim is gone: keep the volume for its owner, or remove it with what is in it."""
    if volume.spec.get("persistentVolumeReclaimPolicy") != "Delete":
        return Plan(tuple(_phase(volume, "Released")))
    released = tuple(_phase(volume, "Released"))
    if not _is_ours(volume):
        return Plan(released)
    path = Path((volume.spec.get("hostPath") or {}).get("path", ""))
    if path.parent != directory or path.name in {"", "..", "."}:
        return failed(volume, f"{path} is not in {directory} and is not removed; remove it and the volume by hand")
    # The directory goes first: once the phase says Released, nothing keeps the object any more.
    going = () if volume.is_deleting else (Delete(PERSISTENT_VOLUME, volume.ref, volume.uid),)
    return Plan((RemoveDirectory(path), *released, *going))


def failed(volume: Volume, why: str) -> Plan:
    """Say that a volume could not be reclaimed."""
    if volume.status.get("phase") == "Failed" and volume.status.get("message") == why:
        return NOTHING
    status = {"phase": "Failed", "reason": "VolumeFailedDelete", "message": why}
    told = Tell(volume, "Warning", "VolumeFailedDelete", why)
    return Plan((Patch(PERSISTENT_VOLUME, volume.ref, {"status": status}, "status"), told))


def _is_ours(volume: Doc[Any]) -> bool:
    return volume.annotations.get(PROVISIONED_BY_ANNOTATION) == PROVISIONER


def _phase(volume: Volume, phase: str) -> Iterable[Action]:
    if volume.status.get("phase") != phase:
        yield Patch(PERSISTENT_VOLUME, volume.ref, {"status": {"phase": phase}}, "status")
