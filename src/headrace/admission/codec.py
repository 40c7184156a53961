"""AdmissionReview v1: a request as our admitters read it, and their answer as the API server reads it. Pure.

Source: Kubernetes `k8s.io/api/admission/v1/types.go`; RFC 6902 for the patch.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.admission.differ import operations
from headrace.errors import HeadraceError, InvalidSpec
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import ALL_KINDS

API_VERSION = "admission.k8s.io/v1"
MAX_WARNING = 1024
"""The API server cuts all warnings of an answer at 4096 bytes."""

_KINDS = {(kind.group, kind.version, kind.plural): kind for kind in ALL_KINDS}


class Person(msgspec.Struct, frozen=True):
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()


class Request(msgspec.Struct, kw_only=True):
    """One request; satisfies `review.Review`. `kind` is None for resources that we know nothing of."""

    uid: str
    user: Person
    operation: str
    kind: Kind[Any]
    namespace: str
    name: str
    subresource: str
    object: Json | None
    old: Json | None
    options: Json
    dry_run: bool = False
    warnings: list[str] = []


def read(content: bytes) -> Request:
    """Return the request in an AdmissionReview; raises InvalidSpec for anything else."""
    try:
        review = msgspec.json.decode(content)
        asked = review["request"]
        if review.get("apiVersion") != API_VERSION or review.get("kind") != "AdmissionReview":
            raise InvalidSpec(
                f"{review.get('kind')} of {review.get('apiVersion')} is not answered here.",
                hint=f"Send an AdmissionReview of {API_VERSION}.",
            )
        return _request(asked)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise InvalidSpec(f"The body is no AdmissionReview: {error!r}.", hint="See admission.k8s.io/v1.") from error


def _request(asked: Json) -> Request:
    resource = asked["resource"]
    group, version, plural = (str(resource.get(key) or "") for key in ("group", "version", "resource"))
    kind = _KINDS.get((group, version, plural))
    if kind is None:
        raise InvalidSpec(
            f"Nothing is admitted here of {'/'.join(filter(None, (group, version, plural)))}.",
            hint="Take it out of the webhook's rules.",
        )
    user, is_connect = asked.get("userInfo") or {}, asked["operation"] == "CONNECT"
    return Request(
        uid=str(asked["uid"]),
        user=Person(str(user.get("username") or ""), tuple(user.get("groups") or ())),
        operation=str(asked["operation"]),
        kind=kind,
        namespace=str(asked.get("namespace") or ""),
        name=str(asked.get("name") or ""),
        subresource=str(asked.get("subResource") or ""),
        # What is connected with is an options object, such as PodExecOptions, and no pod.
        object=None if is_connect else _placed(asked.get("object"), asked),
        old=asked.get("oldObject"),
        options=(asked.get("object") if is_connect else asked.get("options")) or {},
        dry_run=bool(asked.get("dryRun")),
        warnings=[],
    )


def _placed(body: Json | None, asked: Json) -> Json | None:
    """Return the object with its namespace, which the API server leaves out of objects that are just made."""
    namespace = asked.get("namespace")
    if body is None or not namespace or (body.get("metadata") or {}).get("namespace"):
        return body
    return {**body, "metadata": {**(body.get("metadata") or {}), "namespace": namespace}}


def allowed(request: Request, changed: Json | None = None) -> Json:
    """Return the answer that lets a request pass, with the patch to `changed` when that is given and differs."""
    response: Json = {"uid": request.uid, "allowed": True}
    if changed is not None and request.object is not None:
        patch = operations(request.object, changed)
        if patch:
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(msgspec.json.encode(patch)).decode()}
    return _review(response, request.warnings)


def refused(request: Request, error: HeadraceError) -> Json:
    """Return the answer that refuses a request, with the sentence and the causes that people and programs read."""
    causes = [{"field": path, "message": message} for path, message in getattr(error, "causes", ())]
    details: Json = {"causes": causes} if causes else {}
    status: Json = {"status": "Failure", "code": error.http_status, "reason": error.code, "message": str(error)}
    if details:
        status["details"] = details
    return _review({"uid": request.uid, "allowed": False, "status": status}, request.warnings)


def _review(response: Json, warnings: Sequence[str]) -> Json:
    if warnings:
        response["warnings"] = list(dict.fromkeys(map(_short, warnings)))
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def _short(text: str) -> str:
    """Return a warning as a header can carry it: one line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_WARNING else f"{line[: MAX_WARNING - 1]}…"
