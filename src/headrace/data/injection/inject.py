"""`inject`: a pod's dataset claims become what the pool's mount mode can serve (docs/design.md, section 5).

Pure, and all or nothing: the pod comes back whole or an error says which dataset cannot be had and what to do. It
never looks at labels to learn whether it was here before; it looks at the pod (`injection.structure`).

What the user wrote stays, but for three things: mounts of a dataset's claim point to the client's data volume, the
claim's volume is mounted by nobody any more (it stays, so that the claim stays protected and is still bound), and the
pod may take longer to end when its client must write out.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headrace.data.client import ResolvedDataset
from headrace.data.injection.structure import holds, next_index, refuse_reserved_names, taken_indexes
from headrace.data.injection.uses import Use, find_uses, mounts_of, refuse_impossible
from headrace.data.modes import catalogue, native
from headrace.data.modes.mode import Capabilities, Mode, Parts
from headrace.spec.kind import Json
from headrace.spec.names import (
    DATASET_NAME_LABEL_PREFIX,
    DATASET_NAMESPACE_LABEL_PREFIX,
    DATASETS_IN_USE_ANNOTATION,
    DONE_INJECT_LABEL,
    MANAGED_BY_FLUID,
    MANAGED_BY_LABEL,
    MOUNT_DIRECTORY,
)

_DEFAULT_GRACE_S = 30


def inject(pod: Json, datasets: Mapping[str, ResolvedDataset], mode: str, capabilities: Capabilities) -> Json:
    """Return the pod as it can run in a pool of mount mode `mode`.

    Args:
        pod: as it would be created; never changed.
        datasets: by claim name, those that can be had. Claims that are not in it are left alone.
        mode: a pool's `dataAccess.mode`.

    Returns:
        `pod` itself when there is nothing to do; otherwise a changed copy. Applied to its own result it changes
        nothing.

    Raises:
        InvalidSpec: what the pod asks cannot be had, or a name of ours is taken.
        Unsupported: this cluster or version cannot do it.
    """
    uses = find_uses(pod, datasets)
    if not uses:
        return pod
    if mode == catalogue.NATIVE:
        plain = {use.dataset.claim for use in uses if use.dataset.claim == use.dataset.name}
        return native.pin(native.follow(pod, plain), capabilities)
    chosen = catalogue.mode_named(mode)
    for use in uses:
        refuse_impossible(pod, use)
        chosen.check(use.dataset, read_only=use.read_only, capabilities=capabilities)
        refuse_reserved_names(pod, use.dataset)
    result: Json = msgspec.json.decode(msgspec.json.encode(pod))
    added: list[tuple[Use, Parts]] = []
    for use in uses:
        parts = _existing(pod, use, chosen, capabilities)
        if parts is None:
            index = next_index(pod) + len(added)
            parts = chosen.parts(use.dataset, index, read_only=use.read_only, capabilities=capabilities)
            added.append((use, parts))
        _point_mounts(result["spec"], use, parts)
        _label(result.setdefault("metadata", {}), use, parts)
    _add_parts(result["spec"], [parts for _, parts in added])
    if any(not use.read_only for use, _ in added):
        _lengthen_grace(result["spec"], capabilities.tools.flush_s)
    return result


def _existing(pod: Json, use: Use, mode: Mode, capabilities: Capabilities) -> Parts | None:
    """A client that is here already serves further containers too, if it is exactly what we would make.

    One that mounts read-only serves nobody who writes. Read-only is tried first: its options hold those of the other.
    """
    for index in taken_indexes(pod, mode.prefix):
        for read_only in (True, False):
            parts = mode.parts(use.dataset, index, read_only=read_only, capabilities=capabilities)
            if holds(pod, parts):
                if use.read_only or use.dataset.read_only or not read_only:
                    return parts
                break
    return None


def _point_mounts(spec: Json, use: Use, parts: Parts) -> None:
    """Turn every mount of the claim into one of `ds` in the data volume; sub-paths go below it."""
    for _, mount in mounts_of(spec, use.volumes):
        read_only = mount.get("readOnly") or use.volumes[str(mount["name"])] or use.dataset.read_only
        mount["name"] = parts.data_volume
        if mount.get("subPathExpr"):
            mount["subPathExpr"] = f"{MOUNT_DIRECTORY}/{mount['subPathExpr']}"
        else:
            mount["subPath"] = "/".join(filter(None, (MOUNT_DIRECTORY, str(mount.get("subPath", "")).strip("/"))))
        if read_only:
            mount["readOnly"] = True
        mount.pop("recursiveReadOnly", None)
        mount.pop("mountPropagation", None)
        if parts.propagation:
            mount["mountPropagation"] = parts.propagation


def _label(metadata: Json, use: Use, parts: Parts) -> None:
    """Set Fluid's labels; they tell people and Fluid's tools what is here, and nothing of ours believes them."""
    container = parts.container["name"]
    labels = metadata.get("labels") or {}
    metadata["labels"] = labels | {
        DONE_INJECT_LABEL: "true",
        MANAGED_BY_LABEL: MANAGED_BY_FLUID,
        f"{DATASET_NAME_LABEL_PREFIX}{container}": use.dataset.name,
        f"{DATASET_NAMESPACE_LABEL_PREFIX}{container}": use.dataset.namespace,
    }
    annotations = metadata.get("annotations") or {}
    in_use = [name for name in str(annotations.get(DATASETS_IN_USE_ANNOTATION, "")).split(",") if name]
    if use.dataset.name not in in_use:
        in_use.append(use.dataset.name)
    metadata["annotations"] = annotations | {DATASETS_IN_USE_ANNOTATION: ",".join(in_use)}


def _add_parts(spec: Json, added: list[Parts]) -> None:
    if not added:
        return
    spec["initContainers"] = [*(parts.container for parts in added), *(spec.get("initContainers") or [])]
    spec["volumes"] = [*(spec.get("volumes") or []), *(volume for parts in added for volume in parts.volumes)]
    present = spec.get("imagePullSecrets") or []
    known = {secret.get("name") for secret in present}
    wanted = dict.fromkeys(name for parts in added for name in parts.pull_secrets)
    missing = [{"name": name} for name in wanted if name not in known]
    if missing:
        spec["imagePullSecrets"] = [*present, *missing]


def _lengthen_grace(spec: Json, flush_s: int) -> None:
    """The client ends after the app, inside the same grace period. A pod that wants to be killed at once still is."""
    grace_s = spec.get("terminationGracePeriodSeconds")
    if grace_s != 0:
        spec["terminationGracePeriodSeconds"] = (_DEFAULT_GRACE_S if grace_s is None else int(grace_s)) + flush_s
