"""Node (Kubernetes core/v1)."""

from __future__ import annotations

import msgspec

from headrace.spec.core.meta import ObjectMeta
from headrace.spec.core.scheduling import Taint
from headrace.spec.view import Quantity, View


class NodeSpec(View, frozen=True, kw_only=True):
    """What keeps pods away from a node."""

    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    provider_id: str = msgspec.field(default="", name="providerID")
    pod_cidr: str = msgspec.field(default="", name="podCIDR")


class NodeCondition(View, frozen=True, kw_only=True):
    """One observation about a node, such as Ready, MemoryPressure, DiskPressure."""

    type: str = ""
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_heartbeat_time: str = ""
    last_transition_time: str = ""


class NodeAddress(View, frozen=True, kw_only=True):
    """One address: Hostname, InternalIP, ExternalIP…"""

    type: str
    address: str


class DaemonEndpoint(View, frozen=True, kw_only=True):
    """A port; the capital P is Kubernetes' own."""

    port: int = msgspec.field(default=0, name="Port")


class NodeDaemonEndpoints(View, frozen=True, kw_only=True):
    """Where the node agent serves logs and exec."""

    kubelet_endpoint: DaemonEndpoint = DaemonEndpoint()


class NodeSystemInfo(View, frozen=True, kw_only=True):
    """What machine it is."""

    machine_id: str = msgspec.field(default="", name="machineID")
    boot_id: str = msgspec.field(default="", name="bootID")
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    operating_system: str = ""
    architecture: str = ""


class NodeStatus(View, frozen=True, kw_only=True):
    """What the node agent reports."""

    capacity: dict[str, Quantity] = {}
    allocatable: dict[str, Quantity] = {}
    phase: str = ""
    conditions: tuple[NodeCondition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    daemon_endpoints: NodeDaemonEndpoints = NodeDaemonEndpoints()
    node_info: NodeSystemInfo = NodeSystemInfo()


class Node(View, frozen=True, kw_only=True):
    """A machine, or a cloud that behaves like one."""

    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()
