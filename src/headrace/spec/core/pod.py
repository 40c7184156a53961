"""Pod (Kubernetes core/v1)."""

from __future__ import annotations

import msgspec

from headrace.spec.core.container import Container, ContainerStatus, SeccompProfile
from headrace.spec.core.meta import LocalObjectReference, ObjectMeta
from headrace.spec.core.scheduling import Affinity, PodSchedulingGate, Toleration
from headrace.spec.core.volume import Volume
from headrace.spec.view import Quantity, View


class PodSecurityContext(View, frozen=True, kw_only=True):
    """What all containers of a pod may do, unless they say otherwise."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    fs_group: int | None = None
    fs_group_change_policy: str = ""
    supplemental_groups: tuple[int, ...] = ()
    seccomp_profile: SeccompProfile | None = None


class HostAlias(View, frozen=True, kw_only=True):
    """One line of the pod's /etc/hosts."""

    ip: str
    hostnames: tuple[str, ...] = ()


class PodReadinessGate(View, frozen=True, kw_only=True):
    """A condition that must be True before the pod is ready."""

    condition_type: str


class PodSpec(View, frozen=True, kw_only=True):
    """What to run."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    ephemeral_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    node_name: str = ""
    node_selector: dict[str, str] = {}
    affinity: Affinity | None = None
    tolerations: tuple[Toleration, ...] = ()
    scheduler_name: str = "default-scheduler"
    scheduling_gates: tuple[PodSchedulingGate, ...] = ()
    priority_class_name: str = ""
    priority: int | None = None
    service_account_name: str = ""
    automount_service_account_token: bool | None = None
    security_context: PodSecurityContext | None = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    hostname: str = ""
    subdomain: str = ""
    host_aliases: tuple[HostAlias, ...] = ()
    host_network: bool = False
    host_pid: bool = msgspec.field(default=False, name="hostPID")
    host_ipc: bool = msgspec.field(default=False, name="hostIPC")
    share_process_namespace: bool = False
    dns_policy: str = "ClusterFirst"
    enable_service_links: bool = True
    readiness_gates: tuple[PodReadinessGate, ...] = ()
    runtime_class_name: str = ""
    overhead: dict[str, Quantity] = {}


class PodCondition(View, frozen=True, kw_only=True):
    """One observation about a pod, such as PodScheduled, Initialized, ContainersReady, Ready."""

    type: str = ""
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    last_probe_time: str = ""
    observed_generation: int | None = None


class PodIP(View, frozen=True, kw_only=True):
    """One address of a pod."""

    ip: str = ""


class PodStatus(View, frozen=True, kw_only=True):
    """What is known of a pod."""

    phase: str = ""
    """Pending, Running, Succeeded, Failed or Unknown; empty before anybody looked."""
    reason: str = ""
    message: str = ""
    conditions: tuple[PodCondition, ...] = ()
    host_ip: str = msgspec.field(default="", name="hostIP")
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    start_time: str = ""
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()
    qos_class: str = ""
    nominated_node_name: str = ""
    observed_generation: int | None = None


class Pod(View, frozen=True, kw_only=True):
    """Containers that run together on one node."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class PodTemplate(View, frozen=True, kw_only=True):
    """A pod to be made (PodTemplateSpec)."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
