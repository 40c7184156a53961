"""Service (Kubernetes core/v1): here only a name for a set of pods."""

from __future__ import annotations

import msgspec

from headrace.spec.core.meta import ObjectMeta
from headrace.spec.view import IntOrString, View


class ServicePort(View, frozen=True, kw_only=True):
    """One port of a Service."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: IntOrString | None = None
    node_port: int | None = None


class ServiceSpec(View, frozen=True, kw_only=True):
    """Which pods, and under which address."""

    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    external_name: str = ""
    publish_not_ready_addresses: bool = False


class Service(View, frozen=True, kw_only=True):
    """A stable name for pods."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceSpec = ServiceSpec()
