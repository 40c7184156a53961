"""Who may do what, by group: a fixed policy for one installation, without RBAC objects.

`system:masters` may do everything. `system:nodes` may do what a kubelet does, and write only its own Node, CSINode and
Lease (Kubernetes' NodeRestriction; secrets are not narrowed to those of the node's own pods, as both nodes of an
embedded installation are one machine and one user). Service accounts may read their own namespace, except Secrets and
tokens: a namespace's pods would otherwise know all of its secrets. Everybody with a credential may ask what there is
and what they may do.
"""

from __future__ import annotations

from collections.abc import Mapping

from headrace.engine.pipeline.request import Attributes, User

MASTERS = "system:masters"
NODES = "system:nodes"
ACCOUNTS = "system:serviceaccounts"
AUTHENTICATED = "system:authenticated"
NODE_PREFIX = "system:node:"
LEASE_NAMESPACE = "kube-node-lease"

_READS = frozenset({"get", "list", "watch"})
_OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
_KNOWN_PATHS = (*_OPEN_PATHS, "/api", "/apis", "/openapi", "/.well-known")
_REVIEWS = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})
_NODE_READS = frozenset(
    {
        *("configmaps", "csidrivers", "csinodes", "events", "namespaces", "nodes", "persistentvolumeclaims"),
        *("persistentvolumes", "pods", "priorityclasses", "secrets", "serviceaccounts", "services", "storageclasses"),
    }
)
_NODE_WRITES: Mapping[str, frozenset[str]] = {
    "events": frozenset({"create", "update", "patch"}),
    "pods": frozenset({"delete"}),
    "pods/status": frozenset({"update", "patch"}),
    "pods/eviction": frozenset({"create"}),
    "persistentvolumeclaims/status": frozenset({"update", "patch"}),
    "serviceaccounts/token": frozenset({"create"}),
    "tokenreviews": frozenset({"create"}),
    "subjectaccessreviews": frozenset({"create"}),
}
_OF_ITSELF = frozenset({"nodes", "nodes/status", "csinodes", "leases"})
_WRITES = frozenset({"create", "get", "update", "patch", "delete"})


class GroupAuthoriser:
    """Satisfies `pipeline.Authoriser`."""

    def refusal(self, user: User, attributes: Attributes) -> str:
        """Return why `user` may not, an empty text when they may."""
        groups = user.groups
        if MASTERS in groups or _everybody_may(groups, attributes):
            return ""
        if NODES in groups and user.name.startswith(NODE_PREFIX):
            return _node_refusal(user.name.removeprefix(NODE_PREFIX), attributes)
        if ACCOUNTS in groups:
            return _account_refusal(user.name.split(":")[2], attributes)
        return "only members of system:masters may"


def _everybody_may(groups: tuple[str, ...], asked: Attributes) -> bool:
    if asked.path:
        paths = _KNOWN_PATHS if AUTHENTICATED in groups else _OPEN_PATHS
        return asked.verb == "get" and any(asked.path == path or asked.path.startswith(f"{path}/") for path in paths)
    return AUTHENTICATED in groups and asked.verb == "create" and asked.resource in _REVIEWS


def _node_refusal(node: str, asked: Attributes) -> str:
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    if asked.verb in _READS and resource in _NODE_READS:
        return ""
    if asked.verb in _NODE_WRITES.get(resource, ()):
        return ""
    if resource in _OF_ITSELF and asked.verb in _WRITES:
        if resource == "leases" and asked.namespace != LEASE_NAMESPACE:
            return f"a node's leases are in namespace {LEASE_NAMESPACE}"
        # The name of what is made is known only from its body; admission of the object is not repeated here.
        if asked.name == node or (asked.verb == "create" and not asked.name):
            return ""
        return f"node {node} may only write its own {asked.resource}"
    return "a node may not"


def _account_refusal(namespace: str, asked: Attributes) -> str:
    if asked.verb not in _READS or asked.namespace != namespace:
        return f"a service account may only read in its own namespace {namespace}"
    if asked.resource == "secrets":
        return "a service account may not read Secrets"
    return ""
