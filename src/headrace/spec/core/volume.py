"""Volumes of a pod (Kubernetes core/v1)."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.spec.core.meta import LocalObjectReference, ObjectMeta
from headrace.spec.view import Quantity, View


class KeyToPath(View, frozen=True, kw_only=True):
    """Projects one key to one file."""

    key: str
    path: str
    mode: int | None = None


class EmptyDirVolume(View, frozen=True, kw_only=True):
    """A directory that lives as long as the pod; medium Memory makes it a tmpfs."""

    medium: str = ""
    size_limit: Quantity | None = None


class HostPathVolume(View, frozen=True, kw_only=True):
    """A path of the node."""

    path: str
    type: str = ""


class SecretVolume(View, frozen=True, kw_only=True):
    """Files from a Secret's keys."""

    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int | None = None
    optional: bool = False


class ConfigMapVolume(View, frozen=True, kw_only=True):
    """Files from a ConfigMap's keys."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int | None = None
    optional: bool = False


class ObjectFieldSelector(View, frozen=True, kw_only=True):
    """A field of the pod, such as metadata.name."""

    field_path: str
    api_version: str = "v1"


class ResourceFieldSelector(View, frozen=True, kw_only=True):
    """A container's request or limit, such as limits.memory."""

    resource: str
    container_name: str = ""
    divisor: Quantity | None = None


class DownwardAPIFile(View, frozen=True, kw_only=True):
    """One file with a field of the pod or of a container's resources."""

    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: int | None = None


class DownwardAPIVolume(View, frozen=True, kw_only=True):
    """Files about the pod itself."""

    items: tuple[DownwardAPIFile, ...] = ()
    default_mode: int | None = None


class SecretProjection(View, frozen=True, kw_only=True):
    """A Secret's keys inside a projected volume."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class ConfigMapProjection(View, frozen=True, kw_only=True):
    """A ConfigMap's keys inside a projected volume."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class DownwardAPIProjection(View, frozen=True, kw_only=True):
    """Fields of the pod inside a projected volume."""

    items: tuple[DownwardAPIFile, ...] = ()


class ServiceAccountTokenProjection(View, frozen=True, kw_only=True):
    """A bound, expiring service-account token inside a projected volume."""

    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class VolumeProjection(View, frozen=True, kw_only=True):
    """One source of a projected volume; exactly one is set."""

    secret: SecretProjection | None = None
    config_map: ConfigMapProjection | None = None
    downward_api: DownwardAPIProjection | None = msgspec.field(default=None, name="downwardAPI")
    service_account_token: ServiceAccountTokenProjection | None = None


class ProjectedVolume(View, frozen=True, kw_only=True):
    """Several sources in one directory."""

    sources: tuple[VolumeProjection, ...] = ()
    default_mode: int | None = None


class PersistentVolumeClaimVolume(View, frozen=True, kw_only=True):
    """A claim of the pod's namespace."""

    claim_name: str
    read_only: bool = False


class CSIVolume(View, frozen=True, kw_only=True):
    """An inline (ephemeral) volume of a CSI driver."""

    driver: str
    read_only: bool = False
    fs_type: str = ""
    volume_attributes: dict[str, str] = {}
    node_publish_secret_ref: LocalObjectReference | None = None


class PersistentVolumeClaimTemplate(View, frozen=True, kw_only=True):
    """The claim made for a generic ephemeral volume."""

    metadata: ObjectMeta = ObjectMeta()
    spec: dict[str, Any] = {}


class EphemeralVolume(View, frozen=True, kw_only=True):
    """A claim that lives as long as the pod."""

    volume_claim_template: PersistentVolumeClaimTemplate | None = None


class Volume(View, frozen=True, kw_only=True):
    """A named volume; exactly one source is set."""

    name: str
    empty_dir: EmptyDirVolume | None = None
    host_path: HostPathVolume | None = None
    secret: SecretVolume | None = None
    config_map: ConfigMapVolume | None = None
    downward_api: DownwardAPIVolume | None = msgspec.field(default=None, name="downwardAPI")
    projected: ProjectedVolume | None = None
    persistent_volume_claim: PersistentVolumeClaimVolume | None = None
    csi: CSIVolume | None = None
    ephemeral: EphemeralVolume | None = None


class VolumeMount(View, frozen=True, kw_only=True):
    """Where a container sees a volume."""

    name: str
    mount_path: str
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: bool = False
    mount_propagation: str = ""
