"""Every kind Headrace knows, as constants.

Printed columns of core kinds are those `kubectl get` of a real API server shows; where they cannot be read with a
JSONPath (READY and STATUS of a pod) the façade computes them, and what stands here is the nearest plain field.
"""

from __future__ import annotations

from typing import Any

from headrace.spec.core import config, coordination, network, node, pod, scheduling, storage, webhooks, workload
from headrace.spec.fluid import dataset, operation, runtime
from headrace.spec.headrace import nodemount, pool, queue, trainjob
from headrace.spec.kind import Column, Kind
from headrace.spec.names import FLUID_GROUP, FLUID_VERSION, HEADRACE_GROUP, HEADRACE_VERSION

_AGE = Column("Age", ".metadata.creationTimestamp", "date")

# -- Kubernetes' own -------------------------------------------------------------------------------------------------

NAMESPACE = Kind(
    group="",
    version="v1",
    name="Namespace",
    plural="namespaces",
    view=config.Namespace,
    namespaced=False,
    short_names=("ns",),
    subresources=("status", "finalize"),
    columns=(Column("Status", ".status.phase"), _AGE),
)
NODE = Kind(
    group="",
    version="v1",
    name="Node",
    plural="nodes",
    view=node.Node,
    namespaced=False,
    short_names=("no",),
    subresources=("status", "proxy"),
    columns=(
        Column("Status", ".status.conditions[?(@.type=='Ready')].reason"),
        Column("Pool", ".metadata.labels['headrace\\.io/pool']"),
        _AGE,
        Column("Version", ".status.nodeInfo.kubeletVersion"),
    ),
)
POD = Kind(
    group="",
    version="v1",
    name="Pod",
    plural="pods",
    view=pod.Pod,
    short_names=("po",),
    categories=("all",),
    subresources=(
        "status",
        "log",
        "exec",
        "attach",
        "portforward",
        "binding",
        "eviction",
        "ephemeralcontainers",
        "resize",
    ),
    columns=(
        Column("Status", ".status.phase"),
        _AGE,
        Column("IP", ".status.podIP", wide=True),
        Column("Node", ".spec.nodeName", wide=True),
    ),
)
SERVICE = Kind(
    group="",
    version="v1",
    name="Service",
    plural="services",
    view=network.Service,
    short_names=("svc",),
    categories=("all",),
    subresources=("status",),
    columns=(
        Column("Type", ".spec.type"),
        Column("Cluster-IP", ".spec.clusterIP"),
        Column("Port(s)", ".spec.ports[*].port"),
        _AGE,
    ),
)
SERVICE_ACCOUNT = Kind(
    group="",
    version="v1",
    name="ServiceAccount",
    plural="serviceaccounts",
    view=config.ServiceAccount,
    short_names=("sa",),
    subresources=("token",),
    columns=(_AGE,),
)
SECRET = Kind(
    group="",
    version="v1",
    name="Secret",
    plural="secrets",
    view=config.Secret,
    columns=(Column("Type", ".type"), _AGE),
)
CONFIG_MAP = Kind(
    group="",
    version="v1",
    name="ConfigMap",
    plural="configmaps",
    view=config.ConfigMap,
    short_names=("cm",),
    columns=(_AGE,),
)
EVENT = Kind(
    group="",
    version="v1",
    name="Event",
    plural="events",
    view=coordination.Event,
    short_names=("ev",),
    columns=(
        Column("Last Seen", ".lastTimestamp", "date"),
        Column("Type", ".type"),
        Column("Reason", ".reason"),
        Column("Object", ".involvedObject.name"),
        Column("Message", ".message"),
        Column("Count", ".count", "integer", wide=True),
    ),
)
PERSISTENT_VOLUME = Kind(
    group="",
    version="v1",
    name="PersistentVolume",
    plural="persistentvolumes",
    view=storage.PersistentVolume,
    namespaced=False,
    short_names=("pv",),
    subresources=("status",),
    columns=(
        Column("Capacity", ".spec.capacity.storage"),
        Column("Access Modes", ".spec.accessModes"),
        Column("Reclaim Policy", ".spec.persistentVolumeReclaimPolicy"),
        Column("Status", ".status.phase"),
        Column("Claim", ".spec.claimRef.name"),
        Column("StorageClass", ".spec.storageClassName"),
        Column("Reason", ".status.reason"),
        _AGE,
    ),
)
PERSISTENT_VOLUME_CLAIM = Kind(
    group="",
    version="v1",
    name="PersistentVolumeClaim",
    plural="persistentvolumeclaims",
    view=storage.PersistentVolumeClaim,
    short_names=("pvc",),
    subresources=("status",),
    columns=(
        Column("Status", ".status.phase"),
        Column("Volume", ".spec.volumeName"),
        Column("Capacity", ".status.capacity.storage"),
        Column("Access Modes", ".status.accessModes"),
        Column("StorageClass", ".spec.storageClassName"),
        _AGE,
    ),
)
STORAGE_CLASS = Kind(
    group="storage.k8s.io",
    version="v1",
    name="StorageClass",
    plural="storageclasses",
    view=storage.StorageClass,
    namespaced=False,
    short_names=("sc",),
    columns=(
        Column("Provisioner", ".provisioner"),
        Column("ReclaimPolicy", ".reclaimPolicy"),
        Column("VolumeBindingMode", ".volumeBindingMode"),
        Column("AllowVolumeExpansion", ".allowVolumeExpansion", "boolean"),
        _AGE,
    ),
)
CSI_DRIVER = Kind(
    group="storage.k8s.io",
    version="v1",
    name="CSIDriver",
    plural="csidrivers",
    view=storage.CSIDriver,
    namespaced=False,
    columns=(
        Column("AttachRequired", ".spec.attachRequired", "boolean"),
        Column("PodInfoOnMount", ".spec.podInfoOnMount", "boolean"),
        Column("Modes", ".spec.volumeLifecycleModes"),
        _AGE,
    ),
)
CSI_NODE = Kind(
    group="storage.k8s.io",
    version="v1",
    name="CSINode",
    plural="csinodes",
    view=storage.CSINode,
    namespaced=False,
    columns=(Column("Drivers", ".spec.drivers[*].name"), _AGE),
)
LEASE = Kind(
    group="coordination.k8s.io",
    version="v1",
    name="Lease",
    plural="leases",
    view=coordination.Lease,
    columns=(Column("Holder", ".spec.holderIdentity"), _AGE),
)
PRIORITY_CLASS = Kind(
    group="scheduling.k8s.io",
    version="v1",
    name="PriorityClass",
    plural="priorityclasses",
    view=scheduling.PriorityClass,
    namespaced=False,
    short_names=("pc",),
    columns=(Column("Value", ".value", "integer"), Column("Global-Default", ".globalDefault", "boolean"), _AGE),
)
MUTATING_WEBHOOKS = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    name="MutatingWebhookConfiguration",
    plural="mutatingwebhookconfigurations",
    view=webhooks.MutatingWebhookConfiguration,
    namespaced=False,
    categories=("api-extensions",),
    columns=(Column("Webhooks", ".webhooks[*].name"), _AGE),
)
VALIDATING_WEBHOOKS = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    name="ValidatingWebhookConfiguration",
    plural="validatingwebhookconfigurations",
    view=webhooks.ValidatingWebhookConfiguration,
    namespaced=False,
    categories=("api-extensions",),
    columns=(Column("Webhooks", ".webhooks[*].name"), _AGE),
)
CRD = Kind(
    group="apiextensions.k8s.io",
    version="v1",
    name="CustomResourceDefinition",
    plural="customresourcedefinitions",
    view=coordination.CustomResourceDefinition,
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    subresources=("status",),
    columns=(Column("Created At", ".metadata.creationTimestamp", "date"),),
)

DAEMON_SET = Kind(
    group="apps", version="v1", name="DaemonSet", plural="daemonsets", view=workload.DaemonSet, subresources=("status",)
)
"""Of real clusters only: the embedded engine has none."""

# -- CNCF Fluid's ----------------------------------------------------------------------------------------------------

DATASET = Kind(
    group=FLUID_GROUP,
    version=FLUID_VERSION,
    name="Dataset",
    plural="datasets",
    view=dataset.Dataset,
    short_names=("dataset",),
    categories=("fluid",),
    subresources=("status",),
    columns=(
        Column("Ufs Total Size", ".status.ufsTotal"),
        Column("Cached", ".status.cacheStates.cached"),
        Column("Cache Capacity", ".status.cacheStates.cacheCapacity"),
        Column("Cached Percentage", ".status.cacheStates.cachedPercentage"),
        Column("Phase", ".status.phase"),
        Column("Verified", ".status.conditions[?(@.type=='MountVerified')].status"),
        _AGE,
        Column("HCFS URL", ".status.hcfs.endpoint", wide=True),
        Column("Total Files", ".status.fileNum", wide=True),
        Column("Cache Hit Ratio", ".status.cacheStates.cacheHitRatio", wide=True),
    ),
)
THIN_RUNTIME = Kind(
    group=FLUID_GROUP,
    version=FLUID_VERSION,
    name="ThinRuntime",
    plural="thinruntimes",
    view=runtime.ThinRuntime,
    short_names=("thin",),
    categories=("fluid",),
    subresources=("status",),
    columns=(Column("Profile", ".spec.profileName"), Column("Fuse Phase", ".status.fusePhase"), _AGE),
)
THIN_RUNTIME_PROFILE = Kind(
    group=FLUID_GROUP,
    version=FLUID_VERSION,
    name="ThinRuntimeProfile",
    plural="thinruntimeprofiles",
    view=runtime.ThinRuntimeProfile,
    namespaced=False,
    short_names=("profile",),
    categories=("fluid",),
    subresources=("status",),
    columns=(Column("Type", ".spec.fileSystemType"), Column("Image", ".spec.fuse.image"), _AGE),
)
_OPERATION_COLUMNS = (
    Column("Dataset", ".spec.dataset.name"),
    Column("Phase", ".status.phase"),
    _AGE,
    Column("Duration", ".status.duration"),
)
DATA_LOAD = Kind(
    group=FLUID_GROUP,
    version=FLUID_VERSION,
    name="DataLoad",
    plural="dataloads",
    view=operation.DataLoad,
    short_names=("load",),
    categories=("fluid",),
    subresources=("status",),
    columns=_OPERATION_COLUMNS,
)
DATA_PROCESS = Kind(
    group=FLUID_GROUP,
    version=FLUID_VERSION,
    name="DataProcess",
    plural="dataprocesses",
    view=operation.DataProcess,
    categories=("fluid",),
    subresources=("status",),
    columns=_OPERATION_COLUMNS,
)


def _refused(name: str, *short_names: str) -> Kind[operation.Refused]:
    return Kind(
        group=FLUID_GROUP,
        version=FLUID_VERSION,
        name=name,
        plural=f"{name.lower()}s",
        view=operation.Refused,
        short_names=short_names,
        categories=("fluid",),
        subresources=("status",),
        columns=(_AGE,),
    )


REFUSED_FLUID_KINDS: tuple[Kind[operation.Refused], ...] = (
    _refused("AlluxioRuntime", "alluxio"),
    _refused("JindoRuntime", "jindo"),
    _refused("JuiceFSRuntime", "juicefs"),
    _refused("GooseFSRuntime", "goose"),
    _refused("EFCRuntime", "efc"),
    _refused("VineyardRuntime", "v6d"),
    _refused("CacheRuntime"),
    _refused("DataBackup", "backup"),
    _refused("DataMigrate", "migrate"),
)
"""Fluid's kinds that Headrace does not run. They have CRDs so that the refusal can name what to use instead."""

# -- Headrace's ------------------------------------------------------------------------------------------------------

POOL = Kind(
    group=HEADRACE_GROUP,
    version=HEADRACE_VERSION,
    name="Pool",
    plural="pools",
    view=pool.Pool,
    namespaced=False,
    categories=("headrace",),
    subresources=("status",),
    columns=(
        Column("Kind", ".spec.kind"),
        Column("Mode", ".spec.dataAccess.mode"),
        Column("CPU", ".status.allocatable.cpu"),
        Column("Memory", ".status.allocatable.memory"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        _AGE,
        Column("Nodes", ".status.nodes", "integer", wide=True),
        Column("Currency", ".spec.price.currency", wide=True),
    ),
)
QUEUE = Kind(
    group=HEADRACE_GROUP,
    version=HEADRACE_VERSION,
    name="Queue",
    plural="queues",
    view=queue.Queue,
    namespaced=False,
    categories=("headrace",),
    subresources=("status",),
    columns=(
        Column("Cohort", ".spec.cohort"),
        Column("Burst", ".spec.burst.allow", "boolean"),
        Column("Wait Price", ".spec.burst.waitPrice"),
        Column("Budget", ".spec.budget.amount"),
        _AGE,
    ),
)
TRAIN_JOB = Kind(
    group=HEADRACE_GROUP,
    version=HEADRACE_VERSION,
    name="TrainJob",
    plural="trainjobs",
    view=trainjob.TrainJob,
    short_names=("tj",),
    categories=("headrace", "all"),
    subresources=("status",),
    columns=(
        Column("Phase", ".status.phase"),
        Column("Pool", ".status.placement.pool"),
        Column("Running", ".status.workers.running", "integer"),
        Column("Workers", ".status.workers.total", "integer"),
        Column("Queue", ".spec.queue"),
        _AGE,
        Column("Attempt", ".status.placement.attempt", "integer", wide=True),
        Column("Reason", ".status.reason", wide=True),
    ),
)
NODE_MOUNT = Kind(
    group=HEADRACE_GROUP,
    version=HEADRACE_VERSION,
    name="NodeMount",
    plural="nodemounts",
    view=nodemount.NodeMount,
    namespaced=False,
    subresources=("status",),
    columns=(
        Column("Node", ".spec.nodeName"),
        Column("Namespace", ".spec.dataset.namespace"),
        Column("Dataset", ".spec.dataset.name"),
        Column("Read Only", ".spec.readOnly", "boolean"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        _AGE,
        Column("Client", ".status.client.name", wide=True),
        Column("Reason", ".status.conditions[?(@.type=='Ready')].reason", wide=True),
    ),
)

CORE_KINDS: tuple[Kind[Any], ...] = (
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
    SECRET,
    CONFIG_MAP,
    EVENT,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    STORAGE_CLASS,
    CSI_DRIVER,
    CSI_NODE,
    LEASE,
    PRIORITY_CLASS,
    MUTATING_WEBHOOKS,
    VALIDATING_WEBHOOKS,
    CRD,
)
FLUID_KINDS: tuple[Kind[Any], ...] = (
    DATASET,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
    DATA_LOAD,
    DATA_PROCESS,
    *REFUSED_FLUID_KINDS,
)
HEADRACE_KINDS: tuple[Kind[Any], ...] = (POOL, QUEUE, TRAIN_JOB)
PLUGIN_KINDS: tuple[Kind[Any], ...] = (NODE_MOUNT,)
"""What a cluster's volume driver and the controllers tell each other: nobody else has rights in them, and the embedded
engine, whose worlds run the clients themselves, does not have them."""
DEFINED_KINDS: tuple[Kind[Any], ...] = (*FLUID_KINDS, *HEADRACE_KINDS, *PLUGIN_KINDS)
"""Those that a real cluster has to be taught."""
ALL_KINDS: tuple[Kind[Any], ...] = (*CORE_KINDS, *FLUID_KINDS, *HEADRACE_KINDS)
