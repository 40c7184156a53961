"""What a node that joins a cluster is there: its Node, and the few rights it has besides those of every kubelet. Pure.

The Node is made with the credential of whoever lets it join. What decides which pods come to it, its pool's label and its
taint, no node may change on itself (admission NodeRestriction).
"""

from __future__ import annotations

import platform
import re
from typing import Any

import msgspec

from headrace.errors import InvalidSpec
from headrace.install.names import JOINED_NODE_ROLE
from headrace.install.rbac import RBAC, READ, rule
from headrace.spec.kind import Doc, Json
from headrace.spec.names import (
    FLUID_GROUP,
    HOSTNAME_LABEL,
    NODE_ADDRESS_LABEL,
    NODE_POOL_LABEL,
    NODE_TYPE_LABEL,
    NODE_USER_PREFIX,
    VIRTUAL_NODE_TAINT,
    VIRTUAL_NODE_TYPE,
    address_label,
)

JOINED_NODE_EVERYWHERE = [
    # What a volume is, and whether a pod may have it; objects that its own pods name, every node may read anyway.
    rule("", ["persistentvolumeclaims", "persistentvolumes"], ["get"]),
    rule(FLUID_GROUP, ["datasets", "thinruntimes", "thinruntimeprofiles"], ["get"]),
    # Where the pods behind a Service are: there is no name server on this node, but a hosts file.
    rule("discovery.k8s.io", ["endpointslices"], READ),
    # Its own client certificate, renewed in time; kube-controller-manager approves it by this.
    rule("certificates.k8s.io", ["certificatesigningrequests/selfnodeclient"], ["create"]),
]
"""No Secrets but those that its own pods name, and no pods but its own: both by the Node authorizer."""

SERVERLESS_TAINT = {"key": VIRTUAL_NODE_TAINT, "value": "headrace", "effect": "NoSchedule"}
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TAINT_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_TAINT_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Taint(msgspec.Struct, frozen=True):
    """What keeps away from a node all pods that do not tolerate it."""

    key: str
    value: str
    effect: str


def parse_taint(text: str) -> Taint:
    """Read `KEY[=VALUE]:EFFECT`, as kubectl and kubelets write taints; raises InvalidSpec."""
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    if effect not in _EFFECTS or not _TAINT_KEY.fullmatch(key) or not _TAINT_VALUE.fullmatch(value):
        raise InvalidSpec(
            f"{text!r} is no taint.", hint="Write KEY=VALUE:EFFECT or KEY:EFFECT, such as dedicated=ml:NoSchedule."
        )
    return Taint(key, value, effect)


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """One node of one pool."""

    name: str
    pool: str
    address: str
    is_serverless: bool = False
    more_taints: tuple[Taint, ...] = ()

    @property
    def user(self) -> str:
        """Whom the API server knows the node as."""
        return f"{NODE_USER_PREFIX}{self.name}"

    @property
    def taints(self) -> list[Json]:
        more = [msgspec.structs.asdict(taint) for taint in self.more_taints]
        return [dict(SERVERLESS_TAINT), *more] if self.is_serverless else more

    @property
    def labels(self) -> dict[str, str]:
        """What only the cluster's operator may write."""
        return {NODE_POOL_LABEL: self.pool, NODE_ADDRESS_LABEL: address_label(self.address)}

    @property
    def own_labels(self) -> dict[str, str]:
        """What the node may write on itself. DaemonSets that tolerate everything keep away from nodes of this type."""
        return {NODE_TYPE_LABEL: VIRTUAL_NODE_TYPE}


def node(member: Membership) -> Json:
    """Return the Node to create. Its status is the agent's."""
    machine = platform.machine()
    labels = {
        HOSTNAME_LABEL: member.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": _ARCHITECTURES.get(machine, machine),
        **member.own_labels,
        **member.labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": member.name, "labels": labels},
        "spec": {"taints": member.taints},
    }


def node_bindings(name: str) -> list[Json]:
    """Return what gives exactly this node its rights: our own role, and to know whom the API server calls it as."""
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"{NODE_USER_PREFIX}{name}"}
    bound = {
        "apiVersion": RBAC,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": binding_name(name)},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": JOINED_NODE_ROLE},
        "subjects": [subject],
    }
    reader = {
        "apiVersion": RBAC,
        "kind": "RoleBinding",
        "metadata": {"name": binding_name(name), "namespace": "kube-system"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "extension-apiserver-authentication-reader",
        },
        "subjects": [subject],
    }
    return [bound, reader]


def binding_name(node: str) -> str:
    return f"{JOINED_NODE_ROLE}:{node}"


def joined_by(binding: Doc[Any]) -> str:
    """Return the node to which a ClusterRoleBinding gives its rights; empty for any other binding."""
    role, _, node = binding.name.partition(":")
    return node if role == JOINED_NODE_ROLE == (binding.raw.get("roleRef") or {}).get("name") else ""
