"""ThinRuntime and ThinRuntimeProfile: how to run a storage system's own FUSE client.

Source: Fluid `api/v1alpha1/thinruntime_types.go`, `thinruntimeprofile_types.go`, `status.go`, `common.go`.
"""

from __future__ import annotations

from typing import Any, Literal

from headrace.spec.core.container import ContainerPort, EnvVar, Lifecycle, Probe, ResourceRequirements
from headrace.spec.core.meta import Condition, LocalObjectReference, ObjectMeta, PodMetadata
from headrace.spec.core.scheduling import NodeAffinity
from headrace.spec.core.volume import Volume, VolumeMount
from headrace.spec.fluid.dataset import Mount, User
from headrace.spec.view import Quantity, View

NetworkMode = Literal["HostNetwork", "ContainerNetwork", ""]
NodePublishSecretPolicy = Literal[
    "NotMountNodePublishSecret", "MountNodePublishSecretIfExists", "CopyNodePublishSecretAndMountIfNotExists"
]


class ThinFuseSpec(View, frozen=True, kw_only=True):
    """The FUSE client's container."""

    image: str = ""
    """The client's image; `host` is the machine itself."""
    image_tag: str = ""
    """The image's tag."""
    image_pull_policy: str = ""
    """Always, IfNotPresent or Never."""
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    """Secrets for pulling the image."""
    ports: tuple[ContainerPort, ...] = ()
    """Ports the client listens on."""
    env: tuple[EnvVar, ...] = ()
    """Environment of the client."""
    command: tuple[str, ...] = ()
    """Command; the image's own by default."""
    args: tuple[str, ...] = ()
    """Arguments."""
    options: dict[str, str] = {}
    """Options of the client; given to it as runtimeOptions and in MOUNT_OPTIONS."""
    resources: ResourceRequirements = ResourceRequirements()
    """What the client needs and may take."""
    node_selector: dict[str, str] = {}
    """Nodes the client may run on."""
    clean_policy: str = ""
    """When an unused client is removed: OnDemand, OnRuntimeDeleted or OnFuseChanged."""
    network_mode: NetworkMode = ""
    """HostNetwork (the default) or ContainerNetwork."""
    liveness_probe: Probe | None = None
    """Restarts the client when it fails."""
    readiness_probe: Probe | None = None
    """Tells when the client is ready."""
    volume_mounts: tuple[VolumeMount, ...] = ()
    """Volumes of spec.volumes the client sees."""
    lifecycle: Lifecycle | None = None
    """Hooks; only preStop is allowed."""
    pod_metadata: PodMetadata = PodMetadata()
    """Labels and annotations of the client's pods."""


class ThinWorkerSpec(View, frozen=True, kw_only=True):
    """Cache workers of a storage system that has any (Fluid ThinCompTemplateSpec)."""

    image: str = ""
    """The workers' image."""
    image_tag: str = ""
    """The image's tag."""
    image_pull_policy: str = ""
    """Always, IfNotPresent or Never."""
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    """Secrets for pulling the image."""
    replicas: int = 0
    """How many workers."""
    ports: tuple[ContainerPort, ...] = ()
    """Ports the workers listen on."""
    resources: ResourceRequirements = ResourceRequirements()
    """What a worker needs and may take."""
    env: tuple[EnvVar, ...] = ()
    """Environment of the workers."""
    enabled: bool = False
    """Whether there are workers at all."""
    node_selector: dict[str, str] = {}
    """Nodes the workers may run on."""
    volume_mounts: tuple[VolumeMount, ...] = ()
    """Volumes of spec.volumes the workers see."""
    liveness_probe: Probe | None = None
    """Restarts a worker when it fails."""
    readiness_probe: Probe | None = None
    """Tells when a worker is ready."""
    network_mode: NetworkMode = ""
    """HostNetwork (the default) or ContainerNetwork."""


class TieredStoreLevel(View, frozen=True, kw_only=True):
    """One tier of a cache."""

    mediumtype: Literal["MEM", "SSD", "HDD"]
    """What it is made of."""
    volume_type: str = "hostPath"
    """hostPath or emptyDir."""
    volume_source: dict[str, Any] = {}
    """The volume, where volumeType is emptyDir."""
    path: str = ""
    """Comma-joined paths."""
    quota: Quantity | None = None
    """How much in all."""
    quota_list: str = ""
    """Comma-joined quotas, one a path."""
    high: str = ""
    """Ratio at which cleaning begins."""
    low: str = ""
    """Ratio at which cleaning ends."""


class TieredStore(View, frozen=True, kw_only=True):
    """The tiers of a cache."""

    levels: tuple[TieredStoreLevel, ...] = ()
    """From fast to slow."""


class CleanCachePolicy(View, frozen=True, kw_only=True):
    """How a cache is cleaned."""

    grace_period_seconds: int | None = None
    """Seconds it may take; 60 by default."""
    max_retry_attempts: int | None = None
    """How often it is tried again; 3 by default."""


class MetadataSyncPolicy(View, frozen=True, kw_only=True):
    """Whether metadata is read ahead."""

    auto_sync: bool | None = None
    """Read it ahead; false by default for ThinRuntime."""


class RuntimeManagement(View, frozen=True, kw_only=True):
    """How a runtime is looked after."""

    clean_cache_policy: CleanCachePolicy = CleanCachePolicy()
    """How its cache is cleaned."""
    metadata_sync_policy: MetadataSyncPolicy = MetadataSyncPolicy()
    """Whether metadata is read ahead."""


class ThinRuntimeSpec(View, frozen=True, kw_only=True):
    """Which client serves the Dataset, and what differs from its profile."""

    profile_name: str = ""
    """The ThinRuntimeProfile; empty for a Dataset that refers to another one."""
    worker: ThinWorkerSpec = ThinWorkerSpec()
    """Differences for the workers."""
    fuse: ThinFuseSpec = ThinFuseSpec()
    """Differences for the client."""
    tieredstore: TieredStore = TieredStore()
    """Tiers of the cache."""
    replicas: int = 0
    """How many workers."""
    run_as: User | None = None
    """User the runtime runs as."""
    disable_prometheus: bool = False
    """Report no metrics."""
    volumes: tuple[Volume, ...] = ()
    """Volumes for volumeMounts."""
    management: RuntimeManagement = RuntimeManagement()
    """How the runtime is looked after."""
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    """Secrets for pulling images."""


class APIGatewayStatus(View, frozen=True, kw_only=True):
    """Where a REST gateway is."""

    endpoint: str = ""
    """Its address."""


class RuntimeCondition(View, frozen=True, kw_only=True):
    """One observation about a runtime."""

    type: str
    """FusesReady, WorkersReady and the like."""
    status: str
    """True, False or Unknown."""
    reason: str = ""
    """Why, in one word."""
    message: str = ""
    """Why, in a sentence."""
    last_probe_time: str = ""
    """When this was last looked at."""
    last_transition_time: str = ""
    """When the status last changed."""
    observed_generation: int | None = None
    """Headrace: the metadata.generation this was observed at."""


class RuntimeStatus(View, frozen=True, kw_only=True):
    """What is known of a runtime; shared by all of Fluid's runtimes."""

    value_file: str = ""
    """ConfigMap with the runtime's settings."""
    master_phase: str = ""
    """NotReady, PartialReady or Ready."""
    master_reason: str = ""
    """Why the masters' phase changed."""
    worker_phase: str = ""
    """NotReady, PartialReady or Ready."""
    worker_reason: str = ""
    """Why the workers' phase changed."""
    desired_worker_number_scheduled: int = 0
    """Workers wanted."""
    current_worker_number_scheduled: int = 0
    """Workers placed."""
    worker_number_ready: int = 0
    """Workers ready."""
    worker_number_available: int = 0
    """Workers available."""
    worker_number_unavailable: int = 0
    """Workers not available."""
    desired_master_number_scheduled: int = 0
    """Masters wanted."""
    current_master_number_scheduled: int = 0
    """Masters placed."""
    master_number_ready: int = 0
    """Masters ready."""
    fuse_phase: str = ""
    """NotReady, PartialReady or Ready."""
    fuse_reason: str = ""
    """Why the clients' phase changed."""
    current_fuse_number_scheduled: int = 0
    """Clients placed."""
    desired_fuse_number_scheduled: int = 0
    """Clients wanted."""
    fuse_number_ready: int = 0
    """Clients ready."""
    fuse_number_unavailable: int = 0
    """Clients not available."""
    fuse_number_available: int = 0
    """Clients available."""
    setup_duration: str = ""
    """How long it took to set up."""
    conditions: tuple[RuntimeCondition, ...] = ()
    """Observations."""
    cache_states: dict[str, str] = {}
    """State of the cache; N/A where unknown."""
    selector: str = ""
    """Selector of the workers, for autoscaling."""
    api_gateway: APIGatewayStatus | None = None
    """Where a REST gateway is."""
    mount_time: str = ""
    """When it was last mounted."""
    mounts: tuple[Mount, ...] = ()
    """What is mounted."""
    cache_affinity: NodeAffinity | None = None
    """Where the cache is."""
    observed_generation: int | None = None
    """Headrace: the metadata.generation the status is about."""


class ThinRuntime(View, frozen=True, kw_only=True):
    """Binds the Dataset of the same name and namespace to a ThinRuntimeProfile."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ThinRuntimeSpec = ThinRuntimeSpec()
    status: RuntimeStatus = RuntimeStatus()


class ThinRuntimeProfileSpec(View, frozen=True, kw_only=True):
    """How to run one storage system's client."""

    file_system_type: str = ""
    """The type of the mount as /proc/self/mountinfo shows it after fuse., such as juicefs or rclone."""
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    """Secrets for pulling images."""
    worker: ThinWorkerSpec = ThinWorkerSpec()
    """Cache workers."""
    fuse: ThinFuseSpec = ThinFuseSpec()
    """The client's container."""
    volumes: tuple[Volume, ...] = ()
    """Volumes for volumeMounts."""
    node_publish_secret_policy: NodePublishSecretPolicy = "MountNodePublishSecretIfExists"
    """What to do with the nodePublishSecretRef of a wrapped PersistentVolume."""
    restrict: ProfileRestriction | None = None
    """Headrace: what the profile may be used for; anything by default."""


class ProfileRestriction(View, frozen=True, kw_only=True):
    """Headrace's addition: the profile's owner says what it may be used for, because the wrapper acts for tenants."""

    drivers: tuple[str, ...] = ()
    """CSI drivers whose claims may be wrapped with it; any by default."""
    namespaces: tuple[str, ...] = ()
    """Namespaces that may use it; any by default."""
    attributes: dict[str, str] = {}
    """Volume attributes a wrapped PersistentVolume must have, with these values."""


class ThinRuntimeProfileStatus(View, frozen=True, kw_only=True):
    """What is known of a profile."""

    conditions: tuple[Condition, ...] = ()
    """Headrace: observations."""
    observed_generation: int | None = None
    """Headrace: the metadata.generation the status is about."""


class ThinRuntimeProfile(View, frozen=True, kw_only=True):
    """How to run one storage system's FUSE client, for all namespaces."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ThinRuntimeProfileSpec = ThinRuntimeProfileSpec()
    status: ThinRuntimeProfileStatus = ThinRuntimeProfileStatus()
