"""Normalising, defaulting and validating an object, each as its kind does it."""

from __future__ import annotations

from headrace.engine.pipeline import lifecycle, structural
from headrace.engine.pipeline.refusals import Warn, invalid
from headrace.engine.pipeline.registry import Resource
from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Json
from headrace.spec.validation import normalise, unsupported, validate
from headrace.spec.validation.metadata import check_metadata

_STATUS_HAS_DEFAULTS = frozenset({"Namespace", "PersistentVolume", "PersistentVolumeClaim"})


def completed(raw: Json, resource: Resource, warn: Warn, subresource: str = "", old: Json | None = None) -> Json:
    """Return the object as it is stored: spellings normalised, what was not said filled in.

    A write to the status of a core kind leaves an object that is complete already, but for those whose status has
    defaults; copying a pod to fill it in costs 0.5 ms, more than all else of such a write.
    """
    if subresource == "status" and resource.source == "builtin" and resource.kind.name not in _STATUS_HAS_DEFAULTS:
        return raw
    if resource.source == "crd":
        return structural.fill(raw, resource.schema) if resource.schema is not None else raw
    result, warnings = normalise(resource.kind, raw, old)
    for warning in warnings:
        warn(warning)
    return apply_defaults(resource.kind, result)


def check(raw: Json, old: Json | None, resource: Resource, subresource: str, warn: Warn) -> None:
    """Raise InvalidSpec with everything that is wrong; warn of accepted fields that are not carried out."""
    problems = lifecycle.metadata_findings(raw, old)
    if resource.source == "crd":
        problems += check_metadata(resource.kind, raw)
        problems += structural.findings(raw, resource.schema or {})
    else:
        problems += validate(resource.kind, raw, old, subresource=subresource)
    if problems:
        raise invalid(resource.kind, raw["metadata"].get("name") or "", *problems)
    if subresource or resource.source == "crd" or (old is not None and old.get("spec") == raw.get("spec")):
        return
    for problem in unsupported(resource.kind, raw):
        warn(f"{problem.path} {problem.message}")
