"""Errors and successes as the Kubernetes Status objects that clients understand."""

from __future__ import annotations

import math
from typing import Any

from headrace.engine.pipeline.refusals import InvalidObject, UnfitConfiguration
from headrace.engine.pipeline.webhooks.refusals import WebhookDenied, WebhookFailed
from headrace.errors import HeadraceError, InvalidSpec, Unavailable
from headrace.managedfields.applying import ApplyConflict
from headrace.spec.kind import Json, Kind


def from_error(error: HeadraceError, kind: Kind[Any] | None = None, name: str = "") -> Json:
    """Return the Status of a failure; its `code` is the HTTP status, its `reason` the error's stable code."""
    details: Json = {}
    group, what, name = _about(error, kind, name)
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if what:
        details["kind"] = what
    if isinstance(error, ApplyConflict):
        details["causes"] = [
            {"reason": "FieldManagerConflict", "message": sentence, "field": path} for path, sentence in error.causes
        ]
    if isinstance(error, InvalidSpec) and error.causes:
        details["causes"] = [
            {"reason": "FieldValueInvalid", "message": sentence, "field": path} for path, sentence in error.causes
        ]
    if isinstance(error, WebhookDenied | WebhookFailed):
        details = dict(error.details)
    if isinstance(error, Unavailable) and error.retry_after_s is not None:
        details["retryAfterSeconds"] = max(1, math.ceil(error.retry_after_s))
    if error.hint:
        # Our own clients print it on a line of its own; others ignore what they do not know.
        details["hint"] = error.hint
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": str(error),
        **({"reason": error.code} if error.code and not isinstance(error, UnfitConfiguration) else {}),
        **({"details": details} if details else {}),
        "code": error.http_status,
    }


def _about(error: HeadraceError, kind: Kind[Any] | None, name: str) -> tuple[str, str, str]:
    """Return group, kind and name of what a Status is about, as a real API server does: the kind of an object that is
    invalid, the resource of all others, and nothing where the request itself is at fault."""
    if error.about is not None:
        return error.about
    if error.code == "BadRequest" or isinstance(error, ApplyConflict | UnfitConfiguration):
        return "", "", ""
    if not name and isinstance(error, InvalidObject):
        name = error.name
    if kind is None:
        return "", "", name
    return kind.group, kind.name if error.code == "Invalid" else kind.plural, name


def success(kind: Kind[Any], name: str = "", uid: str = "") -> Json:
    """Return the Status of something done that leaves no object to show, such as a deletion."""
    details: Json = {"kind": kind.plural}
    if name:
        details["name"] = name
    if kind.group:
        details["group"] = kind.group
    if uid:
        details["uid"] = uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
