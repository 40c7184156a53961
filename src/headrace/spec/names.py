"""Every label, annotation, finalizer, driver and path that is a contract between packages or with users.

Nothing here may be spelled out anywhere else: a label that two modules write differently fails silently. Fluid's own
names are kept as CNCF Fluid has them (`pkg/common/constants.go`), so that manifests, images and habits carry over.
"""

from __future__ import annotations

import ipaddress

# -- API groups ----------------------------------------------------------------------------------------------------

FLUID_GROUP = "data.fluid.io"
FLUID_VERSION = "v1alpha1"
HEADRACE_GROUP = "headrace.io"
HEADRACE_VERSION = "v1alpha1"
READS_GROUP = "reads.headrace.io"
"""Aggregated group of the computed reads: waiting, quote, usage, code."""
READS_VERSION = "v1alpha1"

# -- Fluid's labels and annotations --------------------------------------------------------------------------------

RUNTIME_PROFILE_LABEL = "fluid.io/runtime-profile"
"""On a PVC, set by the user: wrap it with the ThinRuntimeProfile of this name. Also the consent to share it."""
MANAGED_BY_LABEL = "fluid.io/managed-by"
"""On a wrapped PVC: the Dataset's name. On pods we injected: the word `fluid`."""
MANAGED_BY_FLUID = "fluid"
WRAPPED_BY_LABEL = "fluid.io/wrapped-by"
"""The older spelling of `fluid.io/managed-by` on a PVC."""
DATASET_ID_LABEL = "fluid.io/dataset-id"
SERVERLESS_INJECT_LABEL = "serverless.fluid.io/inject"
"""On a pod, set by the user to `true`: replace its dataset volumes by FUSE sidecars."""
SERVERFUL_INJECT_LABEL = "fuse.serverful.fluid.io/inject"
FUSE_SIDECAR_INJECT_LABEL = "fuse.sidecar.fluid.io/inject"
"""Deprecated in Fluid; read as `serverless.fluid.io/inject`."""
ENABLE_INJECTION_LABEL = "fluid.io/enable-injection"
"""On a pod, `false`: leave it alone."""
DONE_INJECT_LABEL = "done.sidecar.fluid.io/inject"
"""On a pod we injected. Informative only: a label a user can set proves nothing."""
SERVERLESS_PLATFORM_ANNOTATION = "serverless.fluid.io/platform"
DATASET_NAME_LABEL_PREFIX = "dataset-name.sidecar.fluid.io/"
"""Followed by the sidecar container's name; the value is the Dataset's name."""
DATASET_NAMESPACE_LABEL_PREFIX = "dataset-namespace.sidecar.fluid.io/"
DATASETS_IN_USE_ANNOTATION = "fluid.io/datasets-in-use"
SKIP_PRECHECK_ANNOTATION = "sidecar.fluid.io/skip-precheck"
STORAGE_REQUEST_ANNOTATION = "pvc.fluid.io/resources.requests.storage"
"""On a Dataset: the capacity its PV and PVC show, instead of Fluid's 100Pi."""
NODE_PUBLISH_METHOD_LABEL = "fluid.io/node-publish-method"
CREATED_BY_ANNOTATION = "CreatedBy"
JOB_POLICY_LABEL = "fluid.io/jobPolicy"

FLUID_CSI_DRIVER = "fuse.csi.fluid.io"
FLUID_STORAGE_CLASS = "fluid"
DATASET_FINALIZER = "fluid-dataset-controller-finalizer"
THIN_RUNTIME_FINALIZER = "thin-runtime-controller-finalizer"
DATA_LOAD_FINALIZER = "fluid-dataload-controller-finalizer"

# -- Contract with the FUSE client's container (kept from Fluid, design section 5) -----------------------------------

SIDECAR_PREFIX = "fluid-fuse-"
"""Sidecar containers are `fluid-fuse-<n>`, their inline volumes `fluid-fuse-<n>-data` and `fluid-fuse-<n>-socket`."""
FUSE_CONFIG_DIRECTORY = "/etc/fluid/config"
FUSE_CONFIG_FILE = "/etc/fluid/config/config.json"
FUSE_SECRETS_DIRECTORY = "/etc/fluid/secrets"
FUSE_CONFIG_MAP_SUFFIX = "-fuse-conf"
FUSE_CONFIG_KEY = "config.json"
RUNTIME_MOUNT_ROOT = "/runtime-mnt"
RUNTIME_TYPE_THIN = "thin"
ENV_RUNTIME_TYPE = "FLUID_RUNTIME_TYPE"
ENV_RUNTIME_NAMESPACE = "FLUID_RUNTIME_NS"
ENV_RUNTIME_NAME = "FLUID_RUNTIME_NAME"
ENV_MOUNT_POINT = "MOUNT_POINT"
ENV_MOUNT_OPTIONS = "MOUNT_OPTIONS"

# -- The own CSI driver ----------------------------------------------------------------------------------------------

CSI_DRIVER = "fuse.headrace.io"
CSI_ATTRIBUTE_DATASET = "dataset"
"""Of inline volumes: a Dataset's name in the pod's namespace."""
CSI_ATTRIBUTE_ROLE = "role"
"""Which of a client's two inline volumes: `data` or `socket`."""
CSI_ATTRIBUTE_READ_ONLY = "readOnly"
"""Of a data volume, `true`: what is mounted in it is read-only whatever the client asks. It only takes rights away."""
CSI_ATTRIBUTE_NAMESPACE = "namespace"
"""With `dataset`, on the PersistentVolume of a plain Dataset: whose mount the volume is."""
CSI_ATTRIBUTE_PROFILE = "profile"
CSI_ATTRIBUTE_MOUNT_POINT = "mountPoint"
CSI_ATTRIBUTE_OPTION_PREFIX = "option."
CSI_ROLE_DATA = "data"
CSI_ROLE_SOCKET = "socket"

# -- Inside a sidecar ------------------------------------------------------------------------------------------------

MATERIALISE_PREFIX = "fluid-materialise-"
"""Init containers that copy a Dataset where nothing can mount are `fluid-materialise-<n>`."""
MOUNT_DIRECTORY = "ds"
"""The client mounts here beneath its data volume, never on the volume itself, and containers use it as subPath."""
BROKER_DIRECTORY = "/run/headrace/fuse"
"""Where a sidecar sees its socket volume; the broker listens at `broker.sock` in it."""
STAND_IN_DIRECTORY = "/run/headrace/bin"
"""Where a sidecar sees `bin` of its socket volume: the stand-ins for fusermount3 and fusermount."""
FUSE_CACHE_DIRECTORY = "/var/cache/fluid-fuse"
"""Where a client may keep its cache when its ThinRuntime names no other place; its root is read-only."""
MATERIALISE_ANNOTATION = "headrace.io/materialise-command"
"""On a ThinRuntimeProfile: a JSON list, the command that copies a Dataset into targetPath and ends."""

# -- Headrace's own labels, annotations and finalizers ---------------------------------------------------------------

PROJECT_LABEL = "headrace.io/project"
"""On a namespace, whatever its value: Headrace works in it. On a cluster its Secrets are read and its pods admitted."""
POOL_LABEL = "headrace.io/pool"
"""On the pods we make: the Pool's name."""
NODE_POOL_LABEL = "node-restriction.kubernetes.io/headrace-pool"
"""On nodes: the Pool's name. No node may write labels of this prefix, on itself neither (admission NodeRestriction), so
that a stolen credential of a node brings no other pool's pods to it."""
NODE_ADDRESS_LABEL = "node-restriction.kubernetes.io/headrace-address"
"""On nodes that joined by `headrace node`: the address that was agreed then, as `address_label` writes it."""
POOLS_ANNOTATION = "headrace.io/pools"
"""On a PVC or Dataset: comma-joined names of the pools it may go to."""
POOL_CHOICE_ANNOTATION = "headrace.io/pool-choice"
"""On pods of others that could have gone to own nodes or to a rented pool: which it was, and why, as a sentence."""
QUEUE_LABEL = "headrace.io/queue"
JOB_LABEL = "headrace.io/job"
ATTEMPT_LABEL = "headrace.io/attempt"
ROLE_LABEL = "headrace.io/role"
INDEX_LABEL = "headrace.io/index"
SUBMITTED_BY_ANNOTATION = "headrace.io/submitted-by"
"""Who created the object, stamped by admission and immutable. An annotation, because user names are no label values."""
PROBE_LABEL = "headrace.io/probe"
"""On probe pods: the Dataset whose mount they verify."""
DATASET_LABEL = "headrace.io/dataset"
"""On objects made for a Dataset: its name."""
NODE_CLIENT_LABEL = "headrace.io/node-client"
"""On the pods that serve a Dataset to whole nodes: `reads` or `writes`."""
NODE_CLIENT_PRIORITY = "headrace-node-client"
"""PriorityClass of those pods: whoever is evicted, they come last."""
WRAPPER_LABEL = "headrace.io/wraps"
"""On Dataset and ThinRuntime made by the wrapper: the PVC's uid."""
METERED_FINALIZER = "headrace.io/metered"
"""On every pod we make, removed only after its metering event is committed."""
WRAPPER_FINALIZER = "headrace.io/wrapper"

# -- Kubernetes' own ---------------------------------------------------------------------------------------------------

HOSTNAME_LABEL = "kubernetes.io/hostname"
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
NODE_TYPE_LABEL = "type"
DEFAULT_STORAGE_CLASS_ANNOTATION = "storageclass.kubernetes.io/is-default-class"
PROVISIONER_ANNOTATION = "volume.kubernetes.io/storage-provisioner"
SELECTED_NODE_ANNOTATION = "volume.kubernetes.io/selected-node"
BIND_COMPLETED_ANNOTATION = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER_ANNOTATION = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY_ANNOTATION = "pv.kubernetes.io/provisioned-by"
LAST_APPLIED_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
DEFAULT_CONTAINER_ANNOTATION = "kubectl.kubernetes.io/default-container"
PVC_PROTECTION_FINALIZER = "kubernetes.io/pvc-protection"
PV_PROTECTION_FINALIZER = "kubernetes.io/pv-protection"
FOREGROUND_FINALIZER = "foregroundDeletion"
ORPHAN_FINALIZER = "orphan"
NAMESPACE_FINALIZER = "kubernetes"
TAINT_NOT_READY = "node.kubernetes.io/not-ready"
TAINT_UNREACHABLE = "node.kubernetes.io/unreachable"
TAINT_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
VIRTUAL_NODE_TAINT = "virtual-kubelet.io/provider"
VIRTUAL_NODE_TYPE = "virtual-kubelet"
"""Value of the label `type` that virtual nodes have; DaemonSets that tolerate everything keep away by it."""
NODE_USER_PREFIX = "system:node:"
NODES_GROUP = "system:nodes"
NODE_LEASE_NAMESPACE = "kube-node-lease"
SYSTEM_NAMESPACE = "headrace-system"
DEFAULT_SCHEDULER = "default-scheduler"


def address_label(address: str) -> str:
    """Return an IP address as a label's value, which may hold no colon."""
    found = ipaddress.ip_address(address)
    return str(found) if found.version == 4 else found.exploded.replace(":", "-")
