"""Dataset: what data there is (Fluid `api/v1alpha1/dataset_types.go`, `common.go`)."""

from __future__ import annotations

from typing import Literal

from headrace.spec.core.meta import ObjectMeta
from headrace.spec.core.scheduling import NodeSelector, Toleration
from headrace.spec.view import View


class SecretKeySelector(View, frozen=True, kw_only=True):
    """One key of a Secret in the Dataset's namespace."""

    name: str
    """The Secret's name."""
    key: str = ""
    """The key in the Secret."""


class EncryptOptionSource(View, frozen=True, kw_only=True):
    """Where a secret option's value is."""

    secret_key_ref: SecretKeySelector | None = None
    """The Secret and key that hold the value."""


class EncryptOption(View, frozen=True, kw_only=True):
    """An option whose value is secret; the client finds it in a file, never in its configuration."""

    name: str
    """The option's name, such as access-key."""
    value_from: EncryptOptionSource = EncryptOptionSource()
    """Where the value is."""


class Mount(View, frozen=True, kw_only=True):
    """One thing to mount."""

    mount_point: str
    """What to mount: juicefs://…, s3://bucket/path, pvc://claim, dataset://namespace/name[/sub]."""
    options: dict[str, str] = {}
    """Options for the client, as the profile's image understands them."""
    name: str = ""
    """The mount's name; unique in a Dataset."""
    path: str = ""
    """Where it appears in the Dataset; /{name} by default."""
    read_only: bool = False
    """Refuse writes."""
    shared: bool = False
    """All users see it. Handed to the client as it is."""
    encrypt_options: tuple[EncryptOption, ...] = ()
    """Options whose values are secret."""


class User(View, frozen=True, kw_only=True):
    """A user and group, by number and name."""

    uid: int | None = None
    """The user's number."""
    gid: int | None = None
    """The group's number."""
    user: str = ""
    """The user's name."""
    group: str = ""
    """The group's name."""


class CacheableNodeAffinity(View, frozen=True, kw_only=True):
    """On which nodes a Dataset may be cached."""

    required: NodeSelector | None = None
    """Node terms of which one must hold."""


class DataRestoreLocation(View, frozen=True, kw_only=True):
    """Where a backup to restore from is."""

    path: str = ""
    """The backup's path: pvc://claim/path or local:///path."""
    node_name: str = ""
    """The node of a local path."""


class RuntimeReference(View, frozen=True, kw_only=True):
    """A runtime that serves a Dataset."""

    name: str = ""
    """The runtime's name."""
    namespace: str = ""
    """The runtime's namespace."""
    category: str = ""
    """Accelerate."""
    type: str = ""
    """The runtime's type, such as thin."""
    master_replicas: int = 0
    """How many masters it has."""


class DatasetSpec(View, frozen=True, kw_only=True):
    """What data there is and how it may be used."""

    mounts: tuple[Mount, ...] = ()
    """What to mount; at least one."""
    owner: User | None = None
    """Owner of the files."""
    node_affinity: CacheableNodeAffinity | None = None
    """On which nodes it may be cached."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that cache workers put up with."""
    access_modes: tuple[str, ...] = ()
    """ReadOnlyMany (the default), ReadWriteMany, ReadWriteOnce, ReadWriteOncePod."""
    runtimes: tuple[RuntimeReference, ...] = ()
    """Not used: a Dataset is bound to the runtime of its own name and namespace."""
    placement: Literal["Exclusive", "Shared", ""] = ""
    """Whether cache workers share nodes with those of other Datasets."""
    data_restore_location: DataRestoreLocation | None = None
    """Where a backup to restore from is."""
    shared_options: dict[str, str] = {}
    """Options of every mount."""
    shared_encrypt_options: tuple[EncryptOption, ...] = ()
    """Secret options of every mount."""


class DatasetCondition(View, frozen=True, kw_only=True):
    """One observation about a Dataset."""

    type: str
    """Ready, NotReady, Updating, UpdateReady, RuntimeScheduled, Initialized, or Headrace's MountVerified and Unsupported."""
    status: str
    """True, False or Unknown."""
    reason: str = ""
    """Why, in one word."""
    message: str = ""
    """Why, in a sentence."""
    last_update_time: str = ""
    """When this was last looked at."""
    last_transition_time: str = ""
    """When the status last changed."""
    observed_generation: int | None = None
    """Headrace: the metadata.generation this was observed at."""


class HCFSStatus(View, frozen=True, kw_only=True):
    """Where a Hadoop-compatible endpoint is."""

    endpoint: str = ""
    """The endpoint's address."""
    underlayer_file_system_version: str = ""
    """The version of the file system beneath."""


class PoolMount(View, frozen=True, kw_only=True):
    """Headrace: whether a probe mount has really listed the Dataset in one pool."""

    pool: str
    """The Pool's name."""
    mode: str = ""
    """How pods get at it there: native, broker, platform, privileged, materialise."""
    verified: str = "Unknown"
    """True, False or Unknown."""
    reason: str = ""
    """Why, in one word."""
    message: str = ""
    """What the client really said."""
    checked_at: str = ""
    """When it was last tried."""
    observed_generation: int | None = None
    """The metadata.generation that was tried."""
    key: str = ""
    """What was tried: a digest of everything the mount depends on. Another digest is tried at once."""
    attempts: int = 0
    """How often it has failed since it last changed."""


class DatasetStatus(View, frozen=True, kw_only=True):
    """What is known of a Dataset."""

    mounts: tuple[Mount, ...] = ()
    """What is mounted now."""
    ufs_total: str = ""
    """Size of the data."""
    phase: str = ""
    """NotBound, Bound, Failed, Updating, DataMigrating or Pending."""
    runtimes: tuple[RuntimeReference, ...] = ()
    """The runtimes that serve it."""
    conditions: tuple[DatasetCondition, ...] = ()
    """Observations."""
    cache_states: dict[str, str] = {}
    """cacheCapacity, cached, cachedPercentage, cacheHitRatio…; N/A where unknown."""
    hcfs: HCFSStatus | None = None
    """Where a Hadoop-compatible endpoint is."""
    file_num: str = ""
    """How many files."""
    data_load_ref: str = ""
    """Deprecated."""
    data_backup_ref: str = ""
    """Deprecated."""
    operation_ref: dict[str, str] = {}
    """Running operations: type to comma-joined names."""
    dataset_ref: tuple[str, ...] = ()
    """Datasets that refer to this one, as namespace/name."""
    observed_generation: int | None = None
    """Headrace: the metadata.generation the status is about."""
    pools: tuple[PoolMount, ...] = ()
    """Headrace: whether its mount was verified, by pool."""


class Dataset(View, frozen=True, kw_only=True):
    """A set of data in some storage system, mounted by the ThinRuntime of the same name and namespace."""

    metadata: ObjectMeta = ObjectMeta()
    spec: DatasetSpec = DatasetSpec()
    status: DatasetStatus = DatasetStatus()
