"""Fills in what was not said, so that everybody who reads an object later reads the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headrace.spec.defaults import core
from headrace.spec.defaults.pod import default_pod
from headrace.spec.defaults.views import fill
from headrace.spec.kind import Json, Kind
from headrace.spec.names import FLUID_GROUP, HEADRACE_GROUP

__all__ = ["apply_defaults"]

_CORE: Mapping[str, Callable[[Json], None]] = {
    "Pod": default_pod,
    "Namespace": core.default_namespace,
    "Secret": core.default_secret,
    "Service": core.default_service,
    "PersistentVolumeClaim": core.default_claim,
    "PersistentVolume": core.default_volume,
    "StorageClass": core.default_storage_class,
    "CSIDriver": core.default_csi_driver,
    "PriorityClass": core.default_priority_class,
    "CustomResourceDefinition": core.default_crd,
    "MutatingWebhookConfiguration": core.default_mutating_webhooks,
    "ValidatingWebhookConfiguration": core.default_webhooks,
}


def apply_defaults(kind: Kind[Any], raw: Json) -> Json:
    """Return the object with defaults filled in; nothing given is changed. Idempotent.

    Ours and Fluid's take them from their typed views, exactly those their CRDs hold, so that a real API server
    does the same. What is malformed is left as it is, for `validate` to report.
    """
    if kind.group in {FLUID_GROUP, HEADRACE_GROUP}:
        return fill(kind.view, raw)
    default = _CORE.get(kind.name)
    if default is None:
        return raw
    result: Json = _copied(raw)
    default(result)
    return result


def _copied(value: Any) -> Any:
    """Return a deep copy of JSON: a third of what `copy.deepcopy` costs, which reckons with cycles and any class."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
