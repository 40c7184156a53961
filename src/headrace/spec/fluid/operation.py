"""DataLoad and DataProcess: things done to a Dataset (Fluid `dataload_types.go`, `dataprocess_types.go`, `common.go`)."""

from __future__ import annotations

from typing import Literal

from headrace.spec.core.container import EnvVar, ResourceRequirements
from headrace.spec.core.meta import ObjectMeta, PodMetadata
from headrace.spec.core.pod import PodSpec
from headrace.spec.core.scheduling import Affinity, NodeAffinity, Toleration
from headrace.spec.core.volume import Volume, VolumeMount
from headrace.spec.view import View


class TargetDataset(View, frozen=True, kw_only=True):
    """A Dataset; its namespace must be the operation's own."""

    name: str = ""
    """The Dataset's name."""
    namespace: str = ""
    """The Dataset's namespace; the operation's own by default."""


class TargetPath(View, frozen=True, kw_only=True):
    """A path to warm."""

    path: str
    """The path inside the Dataset."""
    replicas: int = 0
    """How many copies the cache keeps."""


class AffinityPreference(View, frozen=True, kw_only=True):
    """A label key and the weight with which nodes that share its value are preferred."""

    name: str
    """The node label's key."""
    weight: int
    """1 to 100."""


class AffinityRequirement(View, frozen=True, kw_only=True):
    """A label key whose value must be shared."""

    name: str
    """The node label's key."""


class ObjectRef(View, frozen=True, kw_only=True):
    """An operation, by name."""

    kind: Literal["DataLoad", "DataBackup", "DataMigrate", "DataProcess"]
    """Its kind."""
    name: str
    """Its name."""
    api_version: str = ""
    """Its API version."""
    namespace: str = ""
    """Its namespace; the operation's own by default."""


class AffinityStrategy(View, frozen=True, kw_only=True):
    """How near an operation runs to another one."""

    depend_on: ObjectRef | None = None
    """The operation to be near to; the one before by default."""
    policy: Literal["Require", "Prefer", ""] = ""
    """Require, Prefer, or nothing."""
    prefers: tuple[AffinityPreference, ...] = ()
    """Labels to prefer."""
    requires: tuple[AffinityRequirement, ...] = ()
    """Labels to require."""


class OperationRef(View, frozen=True, kw_only=True):
    """The operation to wait for."""

    kind: Literal["DataLoad", "DataBackup", "DataMigrate", "DataProcess"]
    """Its kind."""
    name: str
    """Its name."""
    api_version: str = ""
    """Its API version."""
    namespace: str = ""
    """Its namespace; the operation's own by default."""
    affinity_strategy: AffinityStrategy = AffinityStrategy()
    """How near to run."""


class OperationCondition(View, frozen=True, kw_only=True):
    """One observation about an operation."""

    type: str
    """Complete or Failed."""
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


class WaitingStatus(View, frozen=True, kw_only=True):
    """What an operation waits for."""

    operation_complete: bool | None = None
    """Whether the operation before has not completed yet."""


class OperationStatus(View, frozen=True, kw_only=True):
    """What is known of an operation; shared by all of Fluid's operations."""

    phase: str = ""
    """Pending, Executing, Complete or Failed."""
    duration: str = ""
    """How long it took; Unfinished meanwhile."""
    conditions: tuple[OperationCondition, ...] = ()
    """Observations."""
    infos: dict[str, str] = {}
    """What the operation has to tell."""
    last_schedule_time: str = ""
    """When a Cron operation last began."""
    last_successful_time: str = ""
    """When a Cron operation last succeeded."""
    waiting_for: WaitingStatus = WaitingStatus()
    """What it waits for."""
    node_affinity: NodeAffinity | None = None
    """Where it ran."""
    observed_generation: int | None = None
    """Headrace: the metadata.generation the status is about."""


class DataLoadSpec(View, frozen=True, kw_only=True):
    """What to warm and when."""

    dataset: TargetDataset = TargetDataset()
    """The Dataset to warm."""
    load_metadata: bool = False
    """Read the metadata first."""
    target: tuple[TargetPath, ...] = ()
    """What to warm; everything by default."""
    options: dict[str, str] = {}
    """Options of the warm-up command."""
    pod_metadata: PodMetadata = PodMetadata()
    """Labels and annotations of the warm-up's pods."""
    affinity: Affinity | None = None
    """Where the warm-up's pods want to be."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints the warm-up's pods put up with."""
    node_selector: dict[str, str] = {}
    """Nodes the warm-up's pods may run on."""
    scheduler_name: str = ""
    """Scheduler of the warm-up's pods."""
    policy: Literal["Once", "Cron", "OnEvent"] = "Once"
    """Once, Cron, or OnEvent."""
    schedule: str = ""
    """When, in cron's format; for policy Cron."""
    run_after: OperationRef | None = None
    """The operation to wait for."""
    ttl_seconds_after_finished: int | None = None
    """Remove it so many seconds after it finished; for policy Once."""
    resources: ResourceRequirements = ResourceRequirements()
    """What the warm-up's pods need and may take."""


class DataLoad(View, frozen=True, kw_only=True):
    """Warms the cache of a Dataset."""

    metadata: ObjectMeta = ObjectMeta()
    spec: DataLoadSpec = DataLoadSpec()
    status: OperationStatus = OperationStatus()


class TargetDatasetWithMountPath(View, frozen=True, kw_only=True):
    """A Dataset and where the processor sees it."""

    name: str = ""
    """The Dataset's name."""
    namespace: str = ""
    """The Dataset's namespace; the operation's own by default."""
    mount_path: str = ""
    """Where the processor sees it."""
    sub_path: str = ""
    """The part of it that is mounted."""


class JobProcessor(View, frozen=True, kw_only=True):
    """A pod of one's own."""

    pod_spec: PodSpec | None = None
    """The pod."""


class ScriptProcessor(View, frozen=True, kw_only=True):
    """A script in an image."""

    image: str = ""
    """The image."""
    image_tag: str = ""
    """The image's tag."""
    image_pull_policy: str = ""
    """Always, IfNotPresent or Never."""
    restart_policy: Literal["Never", "OnFailure"] = "Never"
    """Never or OnFailure."""
    command: tuple[str, ...] = ()
    """The shell to run the script with."""
    source: str = ""
    """The script."""
    env: tuple[EnvVar, ...] = ()
    """Environment of the script."""
    volume_mounts: tuple[VolumeMount, ...] = ()
    """Volumes the script sees besides the Dataset."""
    volumes: tuple[Volume, ...] = ()
    """Volumes for volumeMounts."""
    resources: ResourceRequirements = ResourceRequirements()
    """What the script needs and may take."""


class Processor(View, frozen=True, kw_only=True):
    """How to process: exactly one of job and script."""

    service_account_name: str = ""
    """Identity of the processor's pods."""
    pod_metadata: PodMetadata = PodMetadata()
    """Labels and annotations of the processor's pods."""
    job: JobProcessor | None = None
    """A pod of one's own."""
    script: ScriptProcessor | None = None
    """A script in an image."""


class DataProcessSpec(View, frozen=True, kw_only=True):
    """What to process and how."""

    dataset: TargetDatasetWithMountPath = TargetDatasetWithMountPath()
    """The Dataset to process."""
    processor: Processor = Processor()
    """How to process it."""
    run_after: OperationRef | None = None
    """The operation to wait for."""
    ttl_seconds_after_finished: int | None = None
    """Remove it so many seconds after it finished."""


class DataProcess(View, frozen=True, kw_only=True):
    """Runs a pod or a script over a Dataset."""

    metadata: ObjectMeta = ObjectMeta()
    spec: DataProcessSpec = DataProcessSpec()
    status: OperationStatus = OperationStatus()


class Refused(View, frozen=True, kw_only=True):
    """One of Fluid's kinds that Headrace does not run; known only so that it can be refused with a reason."""

    metadata: ObjectMeta = ObjectMeta()
