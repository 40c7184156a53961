"""Takes a node out of a cluster: its pods first, then everything that was made for it. Idempotent.

A certificate cannot be taken back. What a node's credential can still do until it ends is make a Node of its name again,
with no pool and so with no pods of one; it has lost every right that was given to it besides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio

from headrace.cluster.protocol import Cluster, MergePatch, Scope
from headrace.cluster.signing import CERTIFICATE_SIGNING_REQUEST, Say
from headrace.errors import NotFound, QuotaExceeded, Unavailable
from headrace.install.apply import Outcome
from headrace.install.kinds import CLUSTER_ROLE_BINDING, ROLE_BINDING
from headrace.install.node_objects import binding_name
from headrace.spec.kind import Doc, Kind, Ref
from headrace.spec.kinds import CSI_NODE, LEASE, NODE, POD
from headrace.spec.names import NODE_LEASE_NAMESPACE, NODE_USER_PREFIX

_LOOK_EVERY_S = 0.5
_SHOWN = 5


async def drain(cluster: Cluster, name: str, say: Say, *, timeout_s: float) -> None:
    """Let no more pods come to the node, evict those that run, and wait until they are gone.

    Raises:
        Unavailable: some do not go in time, such as those that a disruption budget keeps.
    """
    try:
        await cluster.patch(NODE, Ref("", name), MergePatch({"spec": {"unschedulable": True}}))
    except NotFound:
        return
    end = anyio.current_time() + timeout_s
    asked: set[str] = set()
    while True:
        pods = [pod for pod in await pods_of(cluster, name) if _is_to_go(pod)]
        if not pods:
            say("")
            return
        kept = ""
        for pod in pods:
            if pod.uid not in asked and not pod.is_deleting:
                try:
                    await cluster.evict(pod.ref)
                    asked.add(pod.uid)
                except NotFound:
                    continue
                except (QuotaExceeded, Unavailable) as error:  # a disruption budget says 429
                    kept = f" ({error.what})"
        told = ", ".join(str(pod.ref) for pod in pods[:_SHOWN]) + (" …" if len(pods) > _SHOWN else "")
        say(f"Still to end on {name}: {told}{kept}")
        if anyio.current_time() > end:
            raise Unavailable(
                f"Pods of {name} have not ended in {timeout_s:.0f} s: {told}{kept}.",
                hint="Wait and run it again, or leave without waiting: --force",
            )
        await anyio.sleep(_LOOK_EVERY_S)


def _is_to_go(pod: Doc[Any]) -> bool:
    """Whether a pod runs or is to run. Pods of DaemonSets never do here, and would only be made again."""
    is_daemon = any(owner.get("controller") and owner.get("kind") == "DaemonSet" for owner in pod.owners)
    return not is_daemon and pod.status.get("phase") not in {"Succeeded", "Failed"}


async def remove_node(cluster: Cluster, name: str) -> AsyncIterator[Outcome]:
    """Delete what was made for a node that does not run any more, and yield what is gone."""
    objects: list[tuple[Kind[Any], Ref]] = [
        (CLUSTER_ROLE_BINDING, Ref("", binding_name(name))),
        (ROLE_BINDING, Ref("kube-system", binding_name(name))),
        (LEASE, Ref(NODE_LEASE_NAMESPACE, name)),
        (CSI_NODE, Ref("", name)),
        (NODE, Ref("", name)),
    ]
    objects += [(CERTIFICATE_SIGNING_REQUEST, request.ref) for request in await _requests_of(cluster, name)]
    for kind, ref in objects:
        try:
            await cluster.delete(kind, ref)
        except NotFound:
            continue
        yield Outcome(kind, ref, "deleted", {})
    for pod in await pods_of(cluster, name):  # nobody is there who could end them in order
        try:
            await cluster.delete(POD, pod.ref, uid=pod.uid, grace_s=0)
        except NotFound:
            continue
        yield Outcome(POD, pod.ref, "deleted", {})


async def pods_of(cluster: Cluster, name: str) -> list[Doc[Any]]:
    """Return the pods that are bound to a node."""
    return (await cluster.list(POD, Scope(fields=f"spec.nodeName={name}"), limit=0)).items


async def _requests_of(cluster: Cluster, name: str) -> list[Doc[Any]]:
    found = (await cluster.list(CERTIFICATE_SIGNING_REQUEST, limit=0)).items
    ours = (f"node-client-{name}-", f"node-serving-{name}-")
    return [
        each
        for each in found
        if each.spec.get("username") == f"{NODE_USER_PREFIX}{name}"
        or (each.name.startswith(ours) and "-" not in each.name.rpartition(f"{name}-")[2])
    ]
