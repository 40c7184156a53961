"""What a pod's claims mean for its placement: bound volumes tie it to nodes, late-binding ones are chosen with it. Pure.

Source: Kubernetes `pkg/scheduler/framework/plugins/volumebinding` and `volumerestrictions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from headrace.engine.builtin.actions import Action, Patch
from headrace.engine.builtin.binding_plan import (
    Claim,
    Class,
    Volume,
    best_volume,
    is_delayed,
    is_reachable,
    is_reserved_for,
    reserved,
)
from headrace.engine.builtin.protection import claims_of
from headrace.spec.core.node import Node
from headrace.spec.core.pod import Pod
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from headrace.spec.names import BIND_COMPLETED_ANNOTATION, SELECTED_NODE_ANNOTATION

_NO_PROVISIONER = "kubernetes.io/no-provisioner"


class PodVolumes(msgspec.Struct, frozen=True):
    """A pod's claims, sorted out.

    Args:
        problem: why no node at all will do now; empty when one may.
        bound: the volumes of claims that are bound.
        delayed: claims that wait for the pod's node, with their class.
        volumes: all volumes there are, to choose from for those.
    """

    problem: str = ""
    bound: Sequence[Volume] = ()
    delayed: Sequence[tuple[Claim, Class]] = ()
    volumes: Sequence[Volume] = ()


class Storage(msgspec.Struct, frozen=True):
    """How to look things up.

    Args:
        users: pods that use a claim.
    """

    claim: Callable[[Ref], Claim | None]
    volume: Callable[[Ref], Volume | None]
    storage_class: Callable[[Ref], Class | None]
    users: Callable[[Ref], Sequence[Doc[Pod]]]
    volumes: Callable[[], Sequence[Volume]]


def pod_volumes(pod: Doc[Pod], storage: Storage) -> PodVolumes:
    """Sort out a pod's claims."""
    bound: list[Volume] = []
    delayed: list[tuple[Claim, Class]] = []
    for ref in claims_of(pod):
        claim = storage.claim(ref)
        if claim is None:
            return PodVolumes(f'persistentvolumeclaim "{ref.name}" not found')
        if claim.is_deleting:
            return PodVolumes(f'persistentvolumeclaim "{ref.name}" is being deleted')
        if claim.spec.get("accessModes") == ["ReadWriteOncePod"] and _is_taken(pod, storage.users(ref)):
            return PodVolumes(
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
            )
        name = claim.spec.get("volumeName")
        if name and claim.annotations.get(BIND_COMPLETED_ANNOTATION):
            volume = storage.volume(Ref("", name))
            if volume is None:
                return PodVolumes(f'persistentvolumeclaim "{ref.name}" bound to non-existent persistentvolume "{name}"')
            bound.append(volume)
            continue
        storage_class = storage.storage_class(Ref("", claim.spec.get("storageClassName") or ""))
        if name or storage_class is None or not is_delayed(storage_class):
            return PodVolumes("pod has unbound immediate PersistentVolumeClaims")
        delayed.append((claim, storage_class))
    return PodVolumes(bound=bound, delayed=delayed, volumes=storage.volumes() if delayed else ())


def unreachable(volumes: PodVolumes, node: Doc[Node]) -> str:
    """Return why a node cannot have the pod's volumes; an empty text when it can."""
    if not all(is_reachable(volume, node) for volume in volumes.bound):
        return "node(s) had volume node affinity conflict"
    for claim, storage_class in volumes.delayed:
        if best_volume(claim, volumes.volumes, is_delayed=True, node=node) is not None:
            continue
        if storage_class.raw.get("provisioner") == _NO_PROVISIONER:
            return "node(s) didn't find available persistent volumes to bind"
    return ""


def choose(volumes: PodVolumes, node: Doc[Node]) -> list[Action]:
    """Return what has to be done so that the pod's late-binding claims get their volumes for a node.

    Empty although claims are delayed means that all is asked for and only has to happen.
    """
    actions: list[Action] = []
    taken: set[str] = set()
    for claim, _ in volumes.delayed:
        free = [volume for volume in volumes.volumes if volume.name not in taken]
        volume = best_volume(claim, free, is_delayed=True, node=node)
        if volume is not None:
            taken.add(volume.name)
            if not is_reserved_for(volume, claim) or not (volume.spec["claimRef"].get("uid")):
                body = reserved(claim, by_controller=not volume.spec.get("claimRef"))
                body["metadata"] = body.get("metadata", {}) | {"resourceVersion": volume.version}
                actions.append(Patch(PERSISTENT_VOLUME, volume.ref, body))
        elif not claim.annotations.get(SELECTED_NODE_ANNOTATION):
            body = {"metadata": {"annotations": {SELECTED_NODE_ANNOTATION: node.name}}}
            actions.append(Patch(PERSISTENT_VOLUME_CLAIM, claim.ref, body))
    return actions


def _is_taken(pod: Doc[Pod], users: Sequence[Doc[Pod]]) -> bool:
    return any(
        other.uid != pod.uid
        and bool(other.spec.get("nodeName"))
        and other.status.get("phase") not in {"Succeeded", "Failed"}
        for other in users
    )
