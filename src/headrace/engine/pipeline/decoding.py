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
from headrace.engine.pipeline.refusals import BadRequest, Warn, invalid
from headrace.engine.pipeline.registry import Resource
from headrace.engine.pipeline.request import FieldValidation
from headrace.spec.kind import Json

_MAY_BE_EMPTY = ("labels", "annotations", "finalizers", "ownerReferences")


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


def configuration(body: Any, resource: Resource, mode: FieldValidation, warn: Warn) -> Json:
    """Return what a server-side apply sent: JSON or YAML, of the very kind; raises BadRequest."""
    if isinstance(body, bytes) and not body.lstrip().startswith(b"{"):
        try:
            value = msgspec.yaml.decode(body)
        except msgspec.DecodeError as error:
            raise BadRequest(f"error decoding YAML: {error}") from error
        value = {} if value is None else value
    else:
        value = decode(body, mode, warn)
    if not isinstance(value, dict):
        raise BadRequest("error decoding YAML: the configuration must be one object")
    kind = resource.kind
    if value.get("apiVersion") != kind.api_version or value.get("kind") != kind.name:
        group, _, version = str(value.get("apiVersion") or "").rpartition("/")
        raise BadRequest(f"invalid object type: {group}/{version}, Kind={value.get('kind') or ''}")
    metadata = value.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise BadRequest("metadata must be an object.", causes=(("metadata", "must be an object"),))
    return value | {"metadata": metadata or {}}


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
            kept, unknown = structural.prune(_with_plain_metadata(raw), resource.schema)
        case _:
            return _with_plain_metadata(raw)
    _report([f'unknown field "{path}"' for path in unknown], mode, warn)
    return kept


def merged(raw: Json, resource: Resource) -> Json:
    """Return what an apply has made of an object as one that was sent; raises InvalidSpec for nulls that may not be."""
    if resource.source == "builtin":
        return examine(resource.kind, raw).body
    nulls = list(structural.nulls(raw, resource.schema)) if resource.schema is not None else []
    if nulls:
        raise invalid(resource.kind, raw["metadata"].get("name") or "", *nulls)
    return _with_plain_metadata(raw)


def _with_plain_metadata(raw: Json) -> Json:
    """Return the object without labels, annotations, finalizers and owners of which there are none."""
    metadata = raw["metadata"]
    if all(metadata.get(name, True) for name in _MAY_BE_EMPTY):
        return raw
    return raw | {"metadata": {name: value for name, value in metadata.items() if value or name not in _MAY_BE_EMPTY}}


def _report(findings: list[str], mode: FieldValidation, warn: Warn) -> None:
    if findings and mode == "Strict":
        raise BadRequest(f"strict decoding error: {', '.join(findings)}", hint="Mend the fields' names.")
    if mode == "Warn":
        for finding in findings:
            warn(finding)
