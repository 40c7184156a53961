"""The certificate of a joined node's endpoint: signed by the cluster once somebody has approved it, and kept good."""

from __future__ import annotations

import functools

from headrace.clock import Clock
from headrace.cluster.protocol import Cluster
from headrace.cluster.signing import kubelet_serving
from headrace.node import certificates
from headrace.node.certificates import KeptCertificate
from headrace.roles.endpoint import EndpointTls
from headrace.roles.joined_file import SERVING_CERTIFICATE, JoinedNode
from headrace.roles.said import Said
from headrace.settings import Home

_APPROVER = "Headrace's controller, which must run in the cluster (headrace install)"


def serving_certificate(
    node: JoinedNode, home: Home, cluster: Cluster, clock: Clock, tls: EndpointTls, said: Said
) -> KeptCertificate:
    """Return the node's serving certificate, which `tls` shows as soon as there is one. Its `run()` must run beside."""
    file = home.identity / SERVING_CERTIFICATE

    async def show() -> None:
        tls.show(file)

    if not certificates.ended(file, clock.now()):
        tls.show(file)
    return KeptCertificate(
        file,
        cluster,
        kubelet_serving(node.name, [node.address], lasts_s=node.certificate_s, approver=_APPROVER),
        clock,
        say=functools.partial(said.say, "endpoint"),
        renewed=show,
    )
