"""Names that an installation's parts are found by: what is installed, and what the processes make for themselves."""

from __future__ import annotations

from headrace.spec.names import READS_GROUP, READS_VERSION

CONTROLLER, ADMISSION, NODE_PLUGIN = "headrace-controller", "headrace-admission", "headrace-node"
"""Deployments, the DaemonSet, their Services and service accounts."""

CODE_PORT = 8444
"""Of the controller's Service: where workers fetch their code."""

WEBHOOKS = "headrace"
"""Both webhook configurations."""
DRIVER_ROLE = "headrace-node"
"""ClusterRole of the volume driver."""
JOINED_NODE_ROLE = "headrace-joined-node"
"""ClusterRole of nodes that `headrace node` makes; bound to each by a binding of its own."""
READS_API_SERVICE = f"{READS_VERSION}.{READS_GROUP}"

KEY_SECRET = "headrace-key"
AUTHORITY_SECRET = "headrace-authority"
TLS_SECRET = "headrace-tls"
LEDGER_CLAIM = "headrace-ledger"
"""The claim that a ledger in SQLite is kept in."""


def server_hosts(namespace: str) -> tuple[str, ...]:
    """Return the names that our servers are called by inside the cluster."""
    return tuple(
        f"{service}.{namespace}.{tail}" for service in (CONTROLLER, ADMISSION) for tail in ("svc", "svc.cluster.local")
    )
