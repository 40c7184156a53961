"""From a claim to what a node mounts: the bound PersistentVolume and its source, or the sentence why not yet.

Pure. A claim that is not bound, or a source this node cannot mount, is no error of the pod: kubelet tells it by a
FailedMount event and tries again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.errors import InvalidSpec, NotFound, Unavailable, Unsupported
from headrace.node.podspec import PodSpec
from headrace.spec.kind import Json


@dataclass(frozen=True)
class Directory:
    """A hostPath or local PersistentVolume."""

    path: str
    read_only: bool


@dataclass(frozen=True)
class DriverVolume:
    """A PersistentVolume of a CSI driver."""

    driver: str
    volume_id: str
    attributes: Mapping[str, str]
    mount_options: Sequence[str]
    fs_type: str
    read_only: bool
    stage_secret: tuple[str, str] | None
    publish_secret: tuple[str, str] | None


def claim_name(pod: PodSpec, volume: Json) -> str:
    """Return the claim of a persistentVolumeClaim volume, or the one made for an `ephemeral` volume."""
    if "persistentVolumeClaim" in volume:
        return str(volume["persistentVolumeClaim"].get("claimName", ""))
    return f"{pod.name}-{volume['name']}"


def check_claim(pod: PodSpec, volume: Json, claim: Json | None) -> str:
    """Return the name of the PersistentVolume that the claim is bound to.

    Raises:
        NotFound, Unavailable: no such claim, or it is not bound yet.
        InvalidSpec: an `ephemeral` volume's claim belongs to another pod.
    """
    name = claim_name(pod, volume)
    if claim is None:
        raise NotFound(f'persistentvolumeclaim "{name}" not found in namespace {pod.namespace}.')
    owners = (claim["metadata"].get("ownerReferences")) or []
    if "ephemeral" in volume and not any(owner.get("uid") == pod.uid for owner in owners):
        raise InvalidSpec(f"Claim {name} was not made for pod {pod.name}, so its ephemeral volume may not use it.")
    status, spec = claim.get("status") or {}, claim.get("spec") or {}
    if status.get("phase") != "Bound" or not spec.get("volumeName"):
        raise Unavailable(f"Claim {name} is not bound to a volume yet (phase {status.get('phase') or 'Pending'}).")
    return str(spec["volumeName"])


def source_of(claim: Json, volume: Json | None, *, read_only: bool) -> Directory | DriverVolume:
    """Return what the bound PersistentVolume is on this node.

    Args:
        read_only: the pod's own wish, which only adds to the volume's.

    Raises:
        Unavailable: the PersistentVolume is gone or is bound to another claim.
        Unsupported: a block volume, or a source other than hostPath, local and csi.
    """
    claim_meta, name = claim["metadata"], str(claim["spec"]["volumeName"])
    if volume is None:
        raise Unavailable(
            f"PersistentVolume {name} of claim {claim_meta.get('name')} is not there (the claim is Lost)."
        )
    spec: Json = volume.get("spec") or {}
    bound = spec.get("claimRef") or {}
    if bound.get("uid") not in (None, claim_meta.get("uid")):
        raise Unavailable(f"PersistentVolume {name} is bound to another claim than {claim_meta.get('name')}.")
    if spec.get("volumeMode") == "Block":
        raise Unsupported(f"PersistentVolume {name} has volumeMode Block, which this node does not support.")
    modes = (claim.get("status") or {}).get("accessModes") or spec.get("accessModes") or []
    only_reads = read_only or list(modes) == ["ReadOnlyMany"]
    for kind in ("hostPath", "local"):
        if kind in spec:
            return Directory(str(spec[kind].get("path", "")), only_reads)
    if "csi" not in spec:
        kinds = {"nfs", "cephfs", "rbd", "iscsi", "fc", "glusterfs", "azureFile", "azureDisk", "gcePersistentDisk"}
        kind = next(iter(kinds & spec.keys()), "this kind of")
        raise Unsupported(f"PersistentVolume {name}: {kind} volumes are not supported; use csi, hostPath or local.")
    return _driver_volume(spec, read_only=only_reads)


def _driver_volume(spec: Json, *, read_only: bool) -> DriverVolume:
    csi: Json = spec["csi"]
    return DriverVolume(
        driver=str(csi.get("driver", "")),
        volume_id=str(csi.get("volumeHandle", "")),
        attributes={str(k): str(v) for k, v in (csi.get("volumeAttributes") or {}).items()},
        mount_options=tuple(spec.get("mountOptions") or ()),
        fs_type=str(csi.get("fsType") or ""),
        read_only=read_only or bool(csi.get("readOnly")),
        stage_secret=_secret(csi.get("nodeStageSecretRef")),
        publish_secret=_secret(csi.get("nodePublishSecretRef")),
    )


def _secret(reference: Json | None) -> tuple[str, str] | None:
    return (str(reference.get("namespace", "")), str(reference.get("name", ""))) if reference else None
