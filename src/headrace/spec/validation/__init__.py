"""Says what is wrong with an object: every mistake at once, by field path, each with what would be right.

Pure, and the same for everybody: the embedded server, admission on a real cluster, the SDK before it sends anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from headrace.errors import InvalidSpec
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import REFUSED_FLUID_KINDS
from headrace.spec.names import FLUID_GROUP, HEADRACE_GROUP
from headrace.spec.normalise import normalise
from headrace.spec.validation import core, fluid, places, pod, trainjob, webhooks
from headrace.spec.validation.metadata import check_metadata
from headrace.spec.validation.problem import Problem
from headrace.spec.validation.shape import examine
from headrace.spec.validation.unsupported import unsupported
from headrace.spec.validation.updates import check_update

__all__ = ["Problem", "normalise", "refuse", "unsupported", "validate"]

_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "Pod": pod.check_pod,
    "PersistentVolumeClaim": core.check_claim,
    "PersistentVolume": core.check_volume,
    "StorageClass": core.check_storage_class,
    "CSIDriver": core.check_csi_driver,
    "Secret": core.check_secret,
    "ConfigMap": core.check_config_map,
    "Service": core.check_service,
    "Node": core.check_node,
    "Lease": core.check_lease,
    "Event": core.check_event,
    "PriorityClass": core.check_priority_class,
    "CustomResourceDefinition": core.check_crd,
    "MutatingWebhookConfiguration": webhooks.check_configuration,
    "ValidatingWebhookConfiguration": webhooks.check_configuration,
    "Dataset": fluid.check_dataset,
    "ThinRuntime": fluid.check_runtime,
    "ThinRuntimeProfile": fluid.check_profile,
    "DataLoad": fluid.check_data_load,
    "DataProcess": fluid.check_data_process,
    "Pool": places.check_pool,
    "Queue": places.check_queue,
    "TrainJob": trainjob.check_train_job,
}


def validate(kind: Kind[Any], raw: Json, old: Json | None = None, *, subresource: str = "") -> list[Problem]:
    """Return everything that is wrong with an object; an empty list means it may be stored.

    Give objects after `normalise` and `apply_defaults`. Kinds of other groups are checked by their metadata only.

    Args:
        old: the stored object, on update; then fields that may not change are compared too.
        subresource: where only a part is written: `status` checks form only; others (binding, ephemeralcontainers,
            resize…) change what an ordinary update may not, so nothing is compared with `old`.
    """
    if kind in REFUSED_FLUID_KINDS:
        return [Problem("kind", refusal(kind.name))]
    found = list(check_metadata(kind, raw))
    found += _shape(kind, raw)
    if found or kind.name not in _CHECKS or subresource == "status":
        return found
    try:
        view = msgspec.convert(raw, kind.view)
    except msgspec.ValidationError as error:
        return [_converted(error)]
    found += _CHECKS[kind.name](view)
    if old is not None and not subresource:
        found += check_update(kind, raw, old)
    return found


def refuse(kind: Kind[Any], raw: Json, problems: list[Problem]) -> InvalidSpec:
    """Return the error to raise for `problems`, as people read it; its causes are for programs."""
    name = (raw.get("metadata") or {}).get("name") or "without a name"
    what = "; ".join(str(problem) for problem in problems)
    return InvalidSpec(f"{kind.name} {name} is invalid: {what}.", causes=tuple((p.path, p.message) for p in problems))


def refusal(name: str) -> str:
    """Return why one of Fluid's kinds is refused, and what to use."""
    if name.endswith("Runtime"):
        return f"{name} is not run by Headrace; use ThinRuntime with a ThinRuntimeProfile"
    return f"{name} is not run by Headrace; use DataLoad to warm data, or a TrainJob to copy it"


def _shape(kind: Kind[Any], raw: Json) -> list[Problem]:
    """Core kinds are decoded against their published schema by the server; here only ours and Fluid's."""
    if kind.group not in {FLUID_GROUP, HEADRACE_GROUP}:
        return []
    is_fluid = kind.group == FLUID_GROUP
    return [finding.problem for finding in examine(kind, raw) if not (finding.unknown and is_fluid)]


def _converted(error: msgspec.ValidationError) -> Problem:
    what, _, path = str(error).partition(" - at `$")
    return Problem(path.strip("`").lstrip("."), what[:1].lower() + what[1:])
