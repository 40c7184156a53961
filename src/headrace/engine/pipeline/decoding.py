"""From what a client sent to an object of a kind: JSON, the right kind, known fields, the right types.

Unknown and duplicate fields are treated as `fieldValidation` asks: Strict refuses, Warn tells, Ignore is silent. In all
three cases an unknown field is dropped (kinds that keep unknown fields have none). What values mean is judged later.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from headrace.engine.openapi.fields import examine
from headrace.engine.pipeline import structural
from headrace.engine.pipeline.refusals import BadRequest, Warn
from headrace.engine.pipeline.registry import Resource
from headrace.engine.pipeline.request import FieldValidation
from headrace.spec.kind import Json


def copied(value: Any) -> Any:
    """Return a deep copy of JSON in process, so that what the caller does with its own later has no effect here."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, msgspec.DecodeError) as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error


def decode(body: Any, mode: FieldValidation, warn: Warn) -> Any:
    """Return the JSON value of a body, a fresh copy; raises BadRequest."""
    if body is None:
        raise BadRequest("The request has no body.", hint="Send the object as JSON.")
    if not isinstance(body, bytes):
        return copied(body)
    duplicates: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> Json:
        result = dict(items)
        if len(result) < len(items):
            keys = [key for key, _ in items]
            duplicates.extend(dict.fromkeys(key for key in keys if keys.count(key) > 1))
        return result

    try:
        value = msgspec.json.decode(body)  # stricter than the standard library: no NaN, no bad UTF-8
        if mode != "Ignore":
            value = json.loads(body, object_pairs_hook=pairs)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The body cannot be read as JSON: {error}.") from error
    _report([f'duplicate field "{key}"' for key in duplicates], mode, warn)
    return value


def as_kind(value: Any, resource: Resource) -> Json:
    """Return `value` as an object of the kind.

    A core kind's apiVersion and kind are filled in where they are missing; a custom resource must bring its own, as to a
    real API server.
    """
    kind = resource.kind
    if not isinstance(value, dict):
        raise BadRequest(f"The body must be one {kind.name} object.", hint='Begin it with "{".')
    if resource.source != "builtin" and not (value.get("apiVersion") and value.get("kind")):
        missing = "apiVersion" if value.get("kind") else "kind"
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {kind.name}): {missing} is missing",
            hint=f'Add "apiVersion": "{kind.api_version}", "kind": "{kind.name}".',
        )
    for field, expected in (("apiVersion", kind.api_version), ("kind", kind.name)):
        given = value.get(field) or expected
        if given != expected:
            raise BadRequest(
                f"the {field} in the data ({given}) does not match the expected {field} ({expected})",
                hint="Send the object to the URL of its own kind.",
            )
    metadata = value.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise BadRequest("metadata must be an object.", causes=(("metadata", "must be an object"),))
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata or {}} | {
        key: inner for key, inner in value.items() if key not in {"apiVersion", "kind", "metadata"}
    }


def formed(raw: Json, resource: Resource, mode: FieldValidation, warn: Warn) -> Json:
    """Return the object without unknown fields; raises BadRequest for values of the wrong type.

    Kinds of Headrace and Fluid are passed as they are: `headrace.spec.validation` judges their fields and knows the
    nearest names.
    """
    match resource.source:
        case "builtin":
            found = examine(resource.kind, raw)
            if found.wrong:
                what = "; ".join(f"{path} {sentence}" for path, sentence in found.wrong)
                raise BadRequest(
                    f"{resource.kind.name} in version {resource.kind.version!r} cannot be handled: {what}.",
                    causes=found.wrong,
                )
            kept, unknown = found.body, list(found.unknown)
        case "crd" if resource.schema is not None:
            kept, unknown = structural.prune(raw, resource.schema)
        case _:
            return raw
    _report([f'unknown field "{path}"' for path in unknown], mode, warn)
    return kept


def _report(findings: list[str], mode: FieldValidation, warn: Warn) -> None:
    if findings and mode == "Strict":
        raise BadRequest(f"strict decoding error: {', '.join(findings)}", hint="Mend the fields' names.")
    if mode == "Warn":
        for finding in findings:
            warn(finding)
