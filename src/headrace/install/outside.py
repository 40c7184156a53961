"""How an API server reaches a controller that runs outside of its cluster. Pure.

An APIService names a Service. Which kind of Service leads out of a cluster depends on the API server: one that routes
Services itself (--enable-aggregator-routing), or has kube-proxy beside it, follows an EndpointSlice; one that has neither
can only call the host that an ExternalName names (kube-aggregator, `pkg/apiserver/resolvers.go`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from headrace.install.names import CONTROLLER
from headrace.install.objects import LABELS, labelled
from headrace.install.reads import api_service
from headrace.spec.kind import Json

_PORT_NAME = "reads"


class Way(NamedTuple):
    """One way to a controller: its address and port, and whether by a Service that is only another name of the host."""

    host: str
    port: int
    by_name: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port} by {'ExternalName' if self.by_name else 'EndpointSlice'}"


def ways(hosts: Sequence[str], port: int) -> list[Way]:
    """Return all ways that may lead to `hosts`, the likeliest first. An EndpointSlice may not name a loopback address."""
    routed = [Way(host, port, by_name=False) for host in hosts if not ipaddress.ip_address(host).is_loopback]
    return [*routed, *(Way(host, port, by_name=True) for host in hosts)]


def reads_objects(home: str, way: Way) -> list[Json]:
    """Return the objects that lead the API server's computed reads along `way`, in the order of making."""
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": CONTROLLER, "namespace": home},
        "spec": _service_spec(way),
    }
    return [labelled(body) for body in (service, *_endpoints(home, way), api_service(home, port=way.port))]


def _service_spec(way: Way) -> Json:
    port = {"name": _PORT_NAME, "port": way.port, "targetPort": way.port, "protocol": "TCP"}
    if way.by_name:
        return {"type": "ExternalName", "externalName": way.host, "ports": [port]}
    return {"type": "ClusterIP", "ports": [port]}


def _endpoints(home: str, way: Way) -> list[Json]:
    if way.by_name:
        return []
    family = f"IPv{ipaddress.ip_address(way.host).version}"
    labels = {**LABELS, "kubernetes.io/service-name": CONTROLLER, "endpointslice.kubernetes.io/managed-by": "headrace"}
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": CONTROLLER, "namespace": home, "labels": labels},
            "addressType": family,
            "endpoints": [{"addresses": [way.host], "conditions": {"ready": True}}],
            "ports": [{"name": _PORT_NAME, "port": way.port, "protocol": "TCP"}],
        }
    ]
