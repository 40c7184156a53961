"""Reading what clients send: JSON, YAML or protobuf of bounded size, and the options of deletions."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest

from headrace.engine.facade.refusals import TooLarge
from headrace.engine.pipeline.refusals import BadRequest, UnsupportedMediaType
from headrace.engine.pipeline.request import PATCH_CONTENT_TYPES, PatchType
from headrace.engine.protobuf import decode as protobuf
from headrace.spec.kind import Json

LIMIT_BYTES = 3 * 1024 * 1024
"""The largest body that a real API server reads."""


async def read(http: HttpRequest) -> bytes:
    """Return the body; raises TooLarge beyond 3 MiB, before all of it was read."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in http.stream():
        size += len(chunk)
        if size > LIMIT_BYTES:
            raise TooLarge(f"The body is larger than {LIMIT_BYTES} bytes.", hint="Send less at once.")
        chunks.append(chunk)
    return b"".join(chunks)


def media_type(http: HttpRequest) -> str:
    return http.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_object(http: HttpRequest) -> bytes | Json:
    """Return what was sent: JSON as received, YAML and protobuf decoded; raises BadRequest, UnsupportedMediaType."""
    body = await read(http)
    given = media_type(http)
    if not body:
        raise BadRequest("The request has no body.", hint="Send the object as JSON or YAML.")
    if given in {"", "application/json", "text/json", "application/x-www-form-urlencoded"}:
        return body
    if given in {"application/yaml", "application/x-yaml", "text/yaml"}:
        return as_object(_decoded_yaml(body))
    if given == protobuf.MEDIA_TYPE:
        return _decoded_protobuf(body)
    raise UnsupportedMediaType(
        f"A body of type {given} is not read here.", hint="Send application/json or application/yaml."
    )


async def read_patch(http: HttpRequest) -> tuple[PatchType, bytes]:
    """Return the kind of patch and its body; raises UnsupportedMediaType for a content type that is no patch."""
    given = media_type(http)
    patch_type = PATCH_CONTENT_TYPES.get(given)
    if patch_type is None:
        raise UnsupportedMediaType(
            f"A patch of type {given or 'nothing'} is not read here.",
            hint=f"Send one of {', '.join(sorted(PATCH_CONTENT_TYPES))}.",
        )
    return patch_type, await read(http)


async def read_delete_options(http: HttpRequest) -> Json:
    """Return DeleteOptions from the body, or from the query where there is no body (as a real API server does)."""
    body = await read(http)
    given = media_type(http)
    if given == protobuf.MEDIA_TYPE and body:
        return _decoded_protobuf(body)
    if body.strip():
        return as_object(_decoded_yaml(body) if "yaml" in given else decoded_json(body))
    query = http.query_params
    options: Json = {}
    if "gracePeriodSeconds" in query:
        options["gracePeriodSeconds"] = number(query["gracePeriodSeconds"], "gracePeriodSeconds")
    if "propagationPolicy" in query:
        options["propagationPolicy"] = query["propagationPolicy"]
    if "orphanDependents" in query:
        options["orphanDependents"] = query["orphanDependents"] in {"true", "1"}
    if "dryRun" in query:
        options["dryRun"] = query.getlist("dryRun")
    return options


def decoded_json(body: bytes) -> Any:
    """Return decoded JSON; raises BadRequest with the place of the fault."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not JSON: {error}.", hint="Check it with `python -m json.tool`.") from error


def as_object(value: Any) -> Json:
    """Return `value` if it is a JSON object; raises BadRequest otherwise."""
    if not isinstance(value, dict):
        raise BadRequest("The body must be one object.", hint='Begin it with "{" (JSON) or with "apiVersion:" (YAML).')
    return value


def number(text: str, parameter: str) -> int:
    """Return a whole number of the query; raises BadRequest naming the parameter."""
    try:
        return int(text)
    except ValueError as error:
        raise BadRequest(f"{parameter}={text} is not a whole number.", hint="Give digits only.") from error


def _decoded_protobuf(body: bytes) -> Json:
    try:
        return protobuf.decode(body)
    except protobuf.Undecodable as error:
        raise BadRequest(f"The protobuf body cannot be read: {error}.", hint="Send it as application/json.") from error


def _decoded_yaml(body: bytes) -> Any:
    try:
        return msgspec.yaml.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"The body is not YAML: {error}.", hint="Send one document with spaces for indentation."
        ) from error
