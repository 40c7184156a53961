"""Which pods a node leaves alone: they stay Pending, with the reason, and nothing of them is ever begun. Pure.

A DaemonSet puts a pod on every node that it can, and many tolerate every taint: agents of logs, networks and storage that
want a machine of their own. Run here they would fail, and be made again, for ever; refused, too. Pending they cost
nothing, and their DaemonSet says how many of its pods are not ready.
"""

from __future__ import annotations

from headrace.node.podspec import PodSpec

PARKED = "Parked"


def parked(pod: PodSpec, node: str, node_type: str) -> str:
    """Return the sentence why a pod is not begun on this node; empty for one that is to run.

    Args:
        node_type: value of the node's label `type`, by which a DaemonSet can keep away.
    """
    owners = pod.meta.get("ownerReferences") or []
    owner = next((each for each in owners if each.get("controller") and each.get("kind") == "DaemonSet"), None)
    if owner is None:
        return ""
    return (
        f"Pods of DaemonSets are not run on {node}, which is no machine of its own. Keep DaemonSet {owner.get('name')} "
        "away: in spec.template.spec.affinity.nodeAffinity, require that the node label type is NotIn "
        f"[{node_type}]."
    )
