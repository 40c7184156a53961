"""AdmissionReview of admission.k8s.io/v1 and v1beta1: the question, and what an answer must be. Pure.

Source: Kubernetes apiserver `pkg/admission/plugin/webhook/{request/admissionreview.go,errors/statuserror.go}`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from headrace.engine.pipeline.request import AdmissionRequest
from headrace.engine.pipeline.webhooks.matching import Asked, Resource
from headrace.spec.kind import Json

GROUP = "admission.k8s.io"
KIND = "AdmissionReview"
_KNOWN_VERSIONS = ("v1", "v1beta1")


class Unusable(Exception):
    """What a webhook answered is no answer. The text continues `failed calling webhook "x": `."""


class Verdict(NamedTuple):
    """A webhook's answer.

    Args:
        patch: operations of RFC 6902, None for none.
        status: the webhook's own Status of a refusal.
    """

    is_allowed: bool
    patch: list[Any] | None = None
    status: Json | None = None
    warnings: Sequence[str] = ()


def chosen_version(offered: Sequence[str]) -> str:
    """Return the first version of AdmissionReview that both sides know; raises Unusable."""
    for version in offered:
        if version in _KNOWN_VERSIONS:
            return version
    known = ", ".join(_KNOWN_VERSIONS)
    raise Unusable(
        f"could not create admission objects: webhook does not accept known AdmissionReview versions ({known})"
    )


def question(request: AdmissionRequest, asked: Asked, target: Resource, uid: str, version: str) -> Json:
    """Return the review that asks a webhook about a request, seen as one of `target`."""
    user = request.user
    kind = (target.group, target.version, asked.kind) if target != asked.resource else _own_kind(request, asked)
    body: Json = {
        "uid": uid,
        "kind": _named(kind, "kind"),
        "resource": _named(target, "resource"),
        "requestKind": _named(_own_kind(request, asked), "kind"),
        "requestResource": _named(asked.resource, "resource"),
        **({"subResource": asked.subresource, "requestSubResource": asked.subresource} if asked.subresource else {}),
        **({"name": request.name} if request.name else {}),
        **({"namespace": asked.namespace} if asked.namespace else {}),
        "operation": asked.operation,
        "userInfo": {
            "username": user.name,
            "groups": list(user.groups),
            **({"uid": user.uid} if user.uid else {}),
            **({"extra": {key: list(values) for key, values in user.extra.items()}} if user.extra else {}),
        },
        "object": _as(request.object, target, asked),
        "oldObject": _as(request.old, target, asked),
        "dryRun": request.dry_run,
        "options": request.options or None,
    }
    return {"kind": KIND, "apiVersion": f"{GROUP}/{version}", "request": body}


def _own_kind(request: AdmissionRequest, asked: Asked) -> tuple[str, str, str]:
    """Return the kind of what is written: that of the resource, unless a subresource has one of its own."""
    written = request.object if request.object is not None else request.old
    group, _, version = str((written or {}).get("apiVersion") or asked.resource.api_version).rpartition("/")
    return group, version, asked.kind


def _named(parts: tuple[str, str, str], word: str) -> Json:
    return {"group": parts[0], "version": parts[1], word: parts[2]}


def _as(raw: Json | None, target: Resource, asked: Asked) -> Json | None:
    """Return an object as the version that the webhook knows; versions of a kind differ in `apiVersion` only."""
    return raw if raw is None or target == asked.resource else raw | {"apiVersion": target.api_version}


def answer(body: bytes, uid: str, version: str, *, may_patch: bool) -> Verdict:
    """Return what a webhook answered; raises Unusable for anything that is no answer to this very question."""
    review = _decoded(body)
    response = review.get("response")
    if not isinstance(response, dict):
        raise _invalid("webhook response was absent")
    if version == "v1":
        _demand_v1(review, response, uid)
    patch = _patch(response, version, may_patch=may_patch)
    status = response.get("status")
    warnings = response.get("warnings")
    return Verdict(
        is_allowed=response.get("allowed") is True,
        patch=patch,
        status=status if isinstance(status, dict) else None,
        warnings=[str(warning) for warning in warnings] if isinstance(warnings, list) else (),
    )


def _demand_v1(review: Json, response: Json, uid: str) -> None:
    if response.get("uid") != uid:
        raise _invalid(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    expected = f"{GROUP}/v1, Kind={KIND}"
    api_version = str(review.get("apiVersion") or "")
    found = f"{api_version if '/' in api_version else f'/{api_version}'}, Kind={review.get('kind') or ''}"
    if found != expected:
        raise _invalid(f"expected webhook response of {expected}, got {found}")


def _patch(response: Json, version: str, *, may_patch: bool) -> list[Any] | None:
    patch, patch_type = response.get("patch"), response.get("patchType")
    if version == "v1beta1":
        patch_type = "JSONPatch" if patch else None
        patch = patch if may_patch else None
    elif may_patch:
        if patch and patch_type is None:
            raise _invalid("webhook returned response.patch but not response.patchType")
        if not patch and patch_type is not None:
            raise _invalid("webhook returned response.patchType but not response.patch")
    elif patch:
        raise _invalid("validating webhook may not return response.patch")
    elif patch_type is not None:
        raise _invalid("validating webhook may not return response.patchType")
    if not patch or response.get("allowed") is not True:
        return None
    operations = _operations(str(patch))
    if operations and patch_type != "JSONPatch":
        raise Unusable(f'unsupported patch type "{patch_type}"')
    return operations


def _operations(text: str) -> list[Any]:
    try:
        return msgspec.json.decode(base64.b64decode(text, validate=True), type=list[Any])
    except (binascii.Error, msgspec.DecodeError) as error:
        raise Unusable(f"received undecodable patch in webhook response: {error}") from error


def _decoded(body: bytes) -> Json:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        what = f"couldn't get version/kind; json parse error: {error}"
        raise Unusable(f"failed to call webhook: {what}") from error


def _invalid(why: str) -> Unusable:
    return Unusable(f"received invalid webhook response: {why}")


def refusal(name: str, status: Json | None) -> Json:
    """Return the Status with which a request is refused that webhook `name` did not allow."""
    denied = f'admission webhook "{name}" denied the request'
    result = dict(status or {})
    code = result.get("code")
    result["code"] = code if isinstance(code, int) and code >= 400 else 400
    explanation = result.get("message") or result.get("reason")
    result["message"] = f"{denied}: {explanation}" if explanation else f"{denied} without explanation"
    result["status"] = "Failure" if result.get("status") in {None, "", "Success"} else result["status"]
    return result
