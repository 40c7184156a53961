"""Whether a pod may have the inline volume it asks for: looked up, never believed.

A pod's author writes the volume's attributes, and on a cluster whose CSIDriver object is wrong (`podInfoOnMount:
false`) even those that should be the kubelet's own reach the driver as he wrote them. So the pod is read from the API
by the name that the kubelet gives: it must be that very pod (uid), bound to this node, not ended, and really have such
a volume; and the Dataset must be one of its own namespace. There are no grants across namespaces in this version.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.cluster.protocol import Cluster
from headrace.errors import Denied, NotFound
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import POD
from headrace.spec.names import CSI_ATTRIBUTE_DATASET, CSI_ATTRIBUTE_READ_ONLY, CSI_ATTRIBUTE_ROLE, CSI_DRIVER

ALLOWED_ATTRIBUTES = frozenset({CSI_ATTRIBUTE_DATASET, CSI_ATTRIBUTE_ROLE, CSI_ATTRIBUTE_READ_ONLY})
_ENDED = ("Succeeded", "Failed")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What holds for a pod's mount of a Dataset, whatever its client asks.

    Args:
        file_system_type: what follows `fuse.` in mountinfo; empty leaves it to the client.
    """

    file_system_type: str = ""
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class InlineRequest:
    """One inline volume, as the kubelet names its pod and the pod names its Dataset.

    Args:
        read_only: the volume itself says so, which gives nobody more than he had.
    """

    pod: str
    namespace: str
    uid: str
    dataset: str
    role: str
    read_only: bool = False


Permit = Callable[[InlineRequest], Awaitable[Terms]]
"""Returns the terms; raises `headrace.errors` with a sentence for the pod's FailedMount event."""

TermsOf = Callable[[str, str], Awaitable[Terms]]
"""Returns the terms of the Dataset `(namespace, name)`; raises NotFound when there is none."""


class PodPermit:
    """Looks up the pod and the Dataset. One for a node; call it as a `Permit`.

    Args:
        cluster: reads pods.
        node: the name of this node.
    """

    def __init__(self, cluster: Cluster, node: str, terms_of: TermsOf) -> None:
        self._cluster = cluster
        self._node = node
        self._terms_of = terms_of

    async def __call__(self, request: InlineRequest) -> Terms:
        """Return the terms.

        Raises:
            Denied: the pod is another one, is not on this node, has ended, has no such volume, or has one whose
                attributes pretend to be the kubelet's.
            NotFound: the Dataset is not in the pod's namespace.
            Unavailable: the API does not answer, or the Dataset is not configured yet.
        """
        name = f"{request.namespace}/{request.pod}"
        try:
            pod = await self._cluster.get(POD, Ref(request.namespace, request.pod))
        except NotFound as error:
            raise Denied(f"There is no pod {name}, and only pods that exist get volumes.") from error
        why_not = why_not_this_pod(pod, request, self._node)
        if why_not:
            raise Denied(why_not)
        try:
            if not _NAME.fullmatch(request.dataset):
                raise NotFound("No Dataset can have such a name.")
            return await self._terms_of(request.namespace, request.dataset)
        except NotFound as error:
            raise NotFound(
                f"Pod {name} asks for Dataset {request.dataset}, and its namespace has none of this name.",
                hint="A pod gets Datasets of its own namespace only; label a claim there, or correct the name.",
            ) from error


def check_attributes(attributes: Mapping[str, str]) -> None:
    """Refuse attributes that no volume of ours has: whoever writes them believes that they do something."""
    others = sorted(set(attributes) - ALLOWED_ATTRIBUTES)
    if others:
        raise Denied(
            f"An inline volume of {CSI_DRIVER} has the attributes {CSI_ATTRIBUTE_DATASET}, {CSI_ATTRIBUTE_ROLE} and "
            f"{CSI_ATTRIBUTE_READ_ONLY} only, and this one also sets {', '.join(others)}.",
            hint="Remove them; mount options belong to the Dataset and its profile.",
        )


def why_not_this_pod(pod: Doc[Any], request: InlineRequest, node: str) -> str:
    """Return the sentence why `request` cannot be this pod's, empty when it can. Pure."""
    name = f"{request.namespace}/{request.pod}"
    why_not = why_not_on_this_node(pod, request.uid, node)
    if why_not:
        return why_not
    ours = [volume for volume in map(_attributes, pod.spec.get("volumes") or []) if volume is not None]
    for attributes in ours:
        try:
            check_attributes(attributes)
        except Denied as error:
            return f"Pod {name} is refused. {error}"
    wanted = {CSI_ATTRIBUTE_DATASET: request.dataset, CSI_ATTRIBUTE_ROLE: request.role}
    if request.read_only:
        wanted[CSI_ATTRIBUTE_READ_ONLY] = "true"
    if wanted not in ours:
        return f"Pod {name} has no volume of {CSI_DRIVER} with dataset {request.dataset} and role {request.role}."
    return ""


def why_not_on_this_node(pod: Doc[Any], uid: str, node: str) -> str:
    """Return the sentence why the pod that was read is not the one with this uid at work on this node. Pure."""
    if pod.uid != uid:
        return f"Pod {pod.ref} is another one by now: its uid is {pod.uid}, not {uid}."
    place = pod.spec.get("nodeName") or "no node yet"
    if place != node:
        return f"Pod {pod.ref} is bound to {place}, and this is node {node}."
    if pod.status.get("phase") in _ENDED:
        return f"Pod {pod.ref} has ended ({pod.status['phase']}), and gets no more volumes."
    return ""


def _attributes(volume: Json) -> Json | None:
    csi = volume.get("csi") or {}
    return dict(csi.get("volumeAttributes") or {}) if csi.get("driver") == CSI_DRIVER else None
