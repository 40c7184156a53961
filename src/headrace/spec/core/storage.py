"""Claims, volumes, classes and CSI drivers (Kubernetes core/v1, storage.k8s.io/v1)."""

from __future__ import annotations

import msgspec

from headrace.spec.core.container import ResourceRequirements
from headrace.spec.core.meta import Condition, LabelSelector, ObjectMeta, ObjectReference, SecretReference
from headrace.spec.core.scheduling import NodeSelector
from headrace.spec.core.volume import HostPathVolume
from headrace.spec.view import Quantity, View


class TypedLocalObjectReference(View, frozen=True, kw_only=True):
    """An object of any kind in the same namespace."""

    api_group: str = ""
    kind: str = ""
    name: str = ""


class PersistentVolumeClaimSpec(View, frozen=True, kw_only=True):
    """What storage is asked for."""

    access_modes: tuple[str, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    storage_class_name: str | None = None
    """None means the default class; an empty text means no class at all."""
    volume_name: str = ""
    volume_mode: str = "Filesystem"
    selector: LabelSelector | None = None
    data_source: TypedLocalObjectReference | None = None


class PersistentVolumeClaimStatus(View, frozen=True, kw_only=True):
    """What storage was given."""

    phase: str = ""
    access_modes: tuple[str, ...] = ()
    capacity: dict[str, Quantity] = {}
    conditions: tuple[Condition, ...] = ()


class PersistentVolumeClaim(View, frozen=True, kw_only=True):
    """A claim to storage."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PersistentVolumeClaimSpec = PersistentVolumeClaimSpec()
    status: PersistentVolumeClaimStatus = PersistentVolumeClaimStatus()


class CSIPersistentVolume(View, frozen=True, kw_only=True):
    """A volume of a CSI driver."""

    driver: str
    volume_handle: str
    read_only: bool = False
    fs_type: str = ""
    volume_attributes: dict[str, str] = {}
    node_stage_secret_ref: SecretReference | None = None
    node_publish_secret_ref: SecretReference | None = None
    controller_publish_secret_ref: SecretReference | None = None


class LocalVolume(View, frozen=True, kw_only=True):
    """A directory of one node."""

    path: str
    fs_type: str = ""


class NFSVolume(View, frozen=True, kw_only=True):
    """An NFS export."""

    server: str
    path: str
    read_only: bool = False


class VolumeNodeAffinity(View, frozen=True, kw_only=True):
    """The nodes a volume can be reached from."""

    required: NodeSelector | None = None


class PersistentVolumeSpec(View, frozen=True, kw_only=True):
    """A piece of storage; exactly one source is set."""

    capacity: dict[str, Quantity] = {}
    access_modes: tuple[str, ...] = ()
    claim_ref: ObjectReference | None = None
    persistent_volume_reclaim_policy: str = "Retain"
    storage_class_name: str = ""
    mount_options: tuple[str, ...] = ()
    volume_mode: str = "Filesystem"
    node_affinity: VolumeNodeAffinity | None = None
    csi: CSIPersistentVolume | None = None
    host_path: HostPathVolume | None = None
    local: LocalVolume | None = None
    nfs: NFSVolume | None = None


class PersistentVolumeStatus(View, frozen=True, kw_only=True):
    """Whether a volume is taken."""

    phase: str = ""
    message: str = ""
    reason: str = ""


class PersistentVolume(View, frozen=True, kw_only=True):
    """A piece of storage in the cluster."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PersistentVolumeSpec = PersistentVolumeSpec()
    status: PersistentVolumeStatus = PersistentVolumeStatus()


class StorageClass(View, frozen=True, kw_only=True):
    """A way to make volumes."""

    metadata: ObjectMeta = ObjectMeta()
    provisioner: str = ""
    parameters: dict[str, str] = {}
    reclaim_policy: str = "Delete"
    mount_options: tuple[str, ...] = ()
    volume_binding_mode: str = "Immediate"
    allow_volume_expansion: bool = False


class CSIDriverSpec(View, frozen=True, kw_only=True):
    """What a driver can and needs."""

    attach_required: bool = True
    pod_info_on_mount: bool = False
    fs_group_policy: str = ""
    volume_lifecycle_modes: tuple[str, ...] = ()
    storage_capacity: bool = False
    requires_republish: bool = False


class CSIDriver(View, frozen=True, kw_only=True):
    """A volume driver of the cluster."""

    metadata: ObjectMeta = ObjectMeta()
    spec: CSIDriverSpec = CSIDriverSpec()


class CSINodeDriver(View, frozen=True, kw_only=True):
    """A driver that runs on a node."""

    name: str
    node_id: str = msgspec.field(default="", name="nodeID")
    topology_keys: tuple[str, ...] = ()


class CSINodeSpec(View, frozen=True, kw_only=True):
    """The drivers of a node."""

    drivers: tuple[CSINodeDriver, ...] = ()


class CSINode(View, frozen=True, kw_only=True):
    """Which drivers a node has; named like the node."""

    metadata: ObjectMeta = ObjectMeta()
    spec: CSINodeSpec = CSINodeSpec()
