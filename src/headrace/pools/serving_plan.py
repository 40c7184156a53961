"""Which nodes get a serving certificate (`kubernetes.io/kubelet-serving`): what kubectl logs and exec trust. Pure.

Kubernetes leaves this decision to whoever runs the cluster: only he knows whose addresses are whose. Here it is known,
because a node of a pool carries labels that no node may write (admission NodeRestriction): its pool and, where it joined
by `headrace node`, its address. Requests that concern no node of a pool are somebody else's to decide, and left alone.
"""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass
from typing import Any

from headrace.certificates import Request, read_request
from headrace.cluster.signing import KUBELET_SERVING_SIGNER, decision_of
from headrace.spec.kind import Doc
from headrace.spec.names import NODE_ADDRESS_LABEL as ADDRESS
from headrace.spec.names import NODE_POOL_LABEL, NODE_USER_PREFIX, NODES_GROUP, address_label

_ALLOWED_USAGES = frozenset({"digital signature", "key encipherment", "server auth"})
_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class Approve:
    message: str


@dataclass(frozen=True)
class Deny:
    message: str


@dataclass(frozen=True)
class LookAgain:
    """The node has not said yet where it is."""

    after_s: float = _LOOK_AGAIN_S


Verdict = Approve | Deny | LookAgain | None


def asked_nodes(request: Doc[Any]) -> set[str]:
    """Return the names of the nodes that a request concerns: who asks, and whose name he asks for."""
    if request.spec.get("signerName") != KUBELET_SERVING_SIGNER or decision_of(request)[0]:
        return set()
    users = {str(request.spec.get("username") or "")}
    with contextlib.suppress(ValueError):
        users.add(_read(request).common_name)
    return {user.removeprefix(NODE_USER_PREFIX) for user in users if user.startswith(NODE_USER_PREFIX)}


def judge(request: Doc[Any], nodes: dict[str, Doc[Any] | None]) -> Verdict:
    """Decide about a request; None leaves it alone.

    Args:
        nodes: those of `asked_nodes`, None for one that is not there.
    """
    ours = {name for name, node in nodes.items() if node is not None and NODE_POOL_LABEL in node.labels}
    if not ours:
        return None
    username = str(request.spec.get("username") or "")
    name = username.removeprefix(NODE_USER_PREFIX)
    node = nodes.get(name)
    if not username.startswith(NODE_USER_PREFIX) or NODES_GROUP not in (request.spec.get("groups") or []):
        return Deny(f"Node {min(ours)} asks for its certificates itself, and {username or 'nobody'} is not it.")
    if node is None or name not in ours:
        return Deny(f"Node {name} is of no Pool, and asks for a certificate of node {min(ours)}.")
    try:
        asked = _read(request)
    except ValueError as error:
        return Deny(f"The request cannot be read: {error}.")
    why_not = _why_not(name, username, frozenset(request.spec.get("usages") or ()), asked)
    if why_not:
        return Deny(why_not)
    reported = _addresses(node)
    if not reported:
        return LookAgain()
    for address in asked.addresses:
        if address not in reported:
            return Deny(f"{address} is no address of node {name}; it reports {', '.join(sorted(reported))}.")
        if ADDRESS in node.labels and address_label(address) != node.labels[ADDRESS]:
            return Deny(f"Node {name} did not join with the address {address}; its label {ADDRESS} says which it was.")
    where = ", ".join((*asked.dns_names, *asked.addresses))
    return Approve(f"Node {name} of pool {node.labels[NODE_POOL_LABEL]} serves at {where}.")


def _why_not(name: str, username: str, usages: frozenset[str], asked: Request) -> str:
    """Return what is wrong with a request, whatever addresses the node has; empty when nothing is."""
    if asked.common_name != username:
        return (
            f"Node {name} may have a certificate of its own name, {username}, not of {asked.common_name or 'nobody'}."
        )
    if asked.organisations != (NODES_GROUP,):
        return f"A node's certificate names the group {NODES_GROUP}, not {', '.join(asked.organisations) or 'none'}."
    if "server auth" not in usages or not usages <= _ALLOWED_USAGES:
        return f"A serving certificate is for {', '.join(sorted(_ALLOWED_USAGES))}, not {', '.join(sorted(usages))}."
    if asked.others:
        return f"A serving certificate names hosts and addresses only, not {', '.join(asked.others)}."
    if not asked.addresses and not asked.dns_names:
        return "A serving certificate names where it is served, and this request names nothing."
    foreign = [host for host in asked.dns_names if host != name]
    if foreign:
        return f"{', '.join(foreign)} is not the name of node {name}."
    return ""


def _addresses(node: Doc[Any]) -> set[str]:
    found = node.status.get("addresses") or []
    return {str(each.get("address")) for each in found if each.get("type") in {"InternalIP", "ExternalIP"}}


def _read(request: Doc[Any]) -> Request:
    return read_request(base64.b64decode(str(request.spec.get("request") or "")))
