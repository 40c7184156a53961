"""What may not change once an object is there, because something already stands on it.

Paths are compared in raw JSON after defaulting, so unknown fields count too. Sources: Kubernetes `ValidatePodUpdate`,
`ValidatePersistentVolumeClaimUpdate` and kin; for our kinds, docs/design.md ("edits roll out or are refused openly").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.spec.kind import Json, Kind
from headrace.spec.validation.problem import Problem, Problems

IMMUTABLE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "StorageClass": (
        ("provisioner", "delete the class and make a new one"),
        ("parameters", "delete the class and make a new one"),
        ("reclaimPolicy", "delete the class and make a new one"),
        ("volumeBindingMode", "delete the class and make a new one"),
    ),
    "PersistentVolume": tuple((f"spec.{source}", "make another volume") for source in ("csi", "hostPath", "local", "nfs", "volumeMode")),
    "CSIDriver": (("spec.attachRequired", "delete it and make it anew"),),
    "PriorityClass": (("value", "make another class"), ("preemptionPolicy", "make another class")),
    "Secret": (("type", "make another Secret"),),
    "Service": (("spec.clusterIP", "delete the Service and make it anew"),),
    "CustomResourceDefinition": (
        ("spec.group", "make another definition"),
        ("spec.scope", "make another definition"),
        ("spec.names.kind", "make another definition"),
        ("spec.names.plural", "make another definition"),
    ),
    "DataLoad": (("spec.dataset", "make another DataLoad"), ("spec.policy", "make another DataLoad")),
    "DataProcess": (("spec", "make another DataProcess"),),
    "Pool": (("spec.kind", "make another Pool"),),
    "TrainJob": tuple(
        (f"spec.{field}", "its workers are made from it; stop the job and submit it again")
        for field in (
            "framework", "code", "command", "workers", "roles", "resources", "env", "mounts", "outputs", "image", "python", "checkpoint",
        )
    ),
}  # fmt: skip
"""Kind to `(path, what to do instead)`."""

_MAY_BE_SET = frozenset({"spec.clusterIP"})
"""Fields that may be set where there was nothing before."""
_POD_IMAGES = ("containers", "initContainers")


def check_update(kind: Kind[Any], raw: Json, old: Json) -> Problems:
    """Report what changed and may not."""
    match kind.name:
        case "Pod":
            yield from _pod(raw.get("spec") or {}, old.get("spec") or {})
        case "PersistentVolumeClaim":
            yield from _claim(raw.get("spec") or {}, old.get("spec") or {})
        case "Secret" | "ConfigMap" if old.get("immutable"):
            yield from _immutable_data(kind, raw, old)
    for path, instead in IMMUTABLE.get(kind.name, ()):
        before, after = _at(old, path), _at(raw, path)
        if before != after and not (before is None and path in _MAY_BE_SET):
            yield Problem(path, f"cannot be changed; {instead}")


def _at(raw: Json, path: str) -> Any:
    value: Any = raw
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value or None


def _immutable_data(kind: Kind[Any], raw: Json, old: Json) -> Problems:
    for field in ("data", "binaryData", "immutable"):
        if _at(raw, field) != _at(old, field):
            yield Problem(field, f"cannot be changed: this {kind.name} is immutable; delete it and make it anew")


def _claim(new: Json, old: Json) -> Problems:
    # A claim without a class gets the default one when there is one, even later (as in Kubernetes since 1.28).
    changeable = {"resources", "volumeName"} | ({"storageClassName"} if old.get("storageClassName") is None else set())

    def fixed(spec: Json) -> Json:
        resources = spec.get("resources") or {}
        rest = {key: value for key, value in spec.items() if key not in changeable}
        return rest | {"limits": resources.get("limits")}

    if fixed(new) != fixed(old):
        yield Problem("spec", "cannot be changed, except resources.requests; make another claim")
    if old.get("volumeName") and new.get("volumeName") != old["volumeName"]:
        yield Problem("spec.volumeName", f"cannot be changed: the claim is bound to {old['volumeName']}")


def _pod(new: Json, old: Json) -> Problems:
    after, before = _fixed_part(new), _fixed_part(old)
    if changed := sorted(key for key in {*after, *before} if after.get(key) != before.get(key)):
        allowed = "image, activeDeadlineSeconds, additional tolerations and removed schedulingGates"
        instead = f"only {allowed} can. Delete the pod and make it anew"
        yield Problem(f"spec.{changed[0]}", f"cannot be changed on a pod; {instead}")
    deadline_s, was_s = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if was_s is not None and (deadline_s is None or deadline_s > was_s):
        yield Problem("spec.activeDeadlineSeconds", f"may only be shortened; it is {was_s}")
    for toleration in old.get("tolerations") or ():
        if toleration not in (new.get("tolerations") or ()):
            yield Problem("spec.tolerations", "may only be added to")
            break
    for gate in new.get("schedulingGates") or ():
        if gate not in (old.get("schedulingGates") or ()):
            yield Problem("spec.schedulingGates", "may only be removed")
            break


def _fixed_part(spec: Json) -> Json:
    changeable = {"activeDeadlineSeconds", "tolerations", "schedulingGates", "ephemeralContainers"}
    part = {key: value for key, value in spec.items() if key not in changeable}
    for field in _POD_IMAGES:
        if isinstance(part.get(field), list):
            part[field] = [
                {key: value for key, value in container.items() if key != "image"} for container in part[field]
            ]
    return part
