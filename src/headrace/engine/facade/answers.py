"""Turning answers and errors into HTTP: JSON or YAML, Tables, metadata alone, warnings, Status objects."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from headrace.engine.facade.media import Form
from headrace.engine.pipeline.refusals import BadRequest
from headrace.engine.pipeline.status import from_error
from headrace.engine.tables.table import IncludeObject, partial, partial_list, table
from headrace.errors import HeadraceError, Unavailable
from headrace.spec.kind import Json, Kind

_INCLUDE: dict[str, IncludeObject] = {"": "Metadata", "Metadata": "Metadata", "None": "None", "Object": "Object"}


def include_object(text: str) -> IncludeObject:
    """Return the `includeObject` option of a Table; raises BadRequest for another word."""
    if text not in _INCLUDE:
        raise BadRequest(f"includeObject={text} is not known.", hint="Use None, Metadata or Object.")
    return _INCLUDE[text]


def transformed(
    kind: Kind[Any],
    body: Json,
    form: Form,
    now: dt.datetime,
    *,
    include: IncludeObject = "Metadata",
    headers: bool = True,
) -> Json:
    """Return `body` in the form that was accepted. A Status stays a Status whatever was accepted."""
    if not form.transform or body.get("kind") == "Status":
        return body
    if form.transform == "Table":
        changed = table(kind, body, now, include=include, headers=headers)
    else:
        changed = partial_list(body) if "items" in body and body.get("kind") != kind.name else partial(body)
    return changed if form.version == "v1" else changed | {"apiVersion": f"meta.k8s.io/{form.version}"}


def respond(body: Json, form: Form, *, status: int = 200, warnings: Iterable[str] = ()) -> Response:
    """Return the response with `body`."""
    if form.is_yaml:
        response = Response(msgspec.yaml.encode(body), status, media_type="application/yaml")
    else:
        response = Response(msgspec.json.encode(body), status, media_type="application/json")
    for warning in warnings:
        response.raw_headers.append((b"warning", _warning(warning)))
    return response


def refuse(error: HeadraceError, kind: Kind[Any] | None = None, name: str = "") -> Response:
    """Return the Status response of an error."""
    body = from_error(error, kind, name)
    response = Response(msgspec.json.encode(body), body["code"], media_type="application/json")
    if isinstance(error, Unavailable) and error.retry_after_s is not None:
        response.headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    return response


async def on_error(http: HttpRequest, error: Exception) -> Response:  # noqa: ARG001 Starlette's signature
    """Answer a HeadraceError that no handler caught; registered with Starlette."""
    assert isinstance(error, HeadraceError)
    return refuse(error)


def _warning(text: str) -> bytes:
    # RFC 7234 quoted-string, and no line breaks: clients split headers on them.
    quoted = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{quoted}"'.encode("utf-8", "replace")
