"""The subresources that are verbs of their own: binding and eviction of pods, tokens, and scale of custom resources.

`status` and `finalize` are ordinary updates of a part and live in `writing`; `log`, `exec` and their kin lead to a
node and go through `Pipeline.connect`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.clock import Clock
from headrace.engine.pipeline import decoding, refusals
from headrace.engine.pipeline.admission import Admission, options
from headrace.engine.pipeline.deleting import Remover
from headrace.engine.pipeline.patching import merged, patched
from headrace.engine.pipeline.reading import Reader
from headrace.engine.pipeline.refusals import Warn
from headrace.engine.pipeline.registry import Resource
from headrace.engine.pipeline.request import (
    AdmissionRequest,
    Answer,
    Operation,
    Preconditions,
    Request,
    TokenIssuer,
    User,
)
from headrace.engine.pipeline.status import success
from headrace.engine.pipeline.writing import Writer
from headrace.errors import Unsupported
from headrace.spec.conditions import set_condition
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import NODE, POD, SECRET

_LEAST_LIFETIME_S = 600
_DEFAULT_LIFETIME_S = 3600
_BINDABLE: Mapping[str, Kind[Any]] = {"Pod": POD, "Secret": SECRET, "Node": NODE}
_SCALE_VERSION = "autoscaling/v1"
_POSTED = {
    "binding": ("v1", "Binding"),
    "eviction": ("policy/v1", "Eviction"),
    "token": ("authentication.k8s.io/v1", "TokenRequest"),
    "scale": (_SCALE_VERSION, "Scale"),
}
"""Version and kind of what is sent to subresources."""


class Subresources:
    """Answers create on `binding`, `eviction`, `token`, and get, update and patch on `scale`."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        remover: Remover,
        admission: Admission,
        tokens: TokenIssuer | None,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._remover = remover
        self._admission = admission
        self._tokens = tokens
        self._clock = clock

    async def create(self, user: User, request: Request, resource: Resource, warn: Warn) -> Answer:
        """Carry out what a posted subresource asks for."""
        body = decoding.decode(request.body, request.field_validation, warn)
        if not isinstance(body, dict):
            raise refusals.BadRequest(f"The body must be one {request.subresource} object.")
        if request.subresource in _POSTED:
            body = await self._admitted(user, request, resource, "CREATE", body, None, warn)
        match request.subresource:
            case "binding":
                return await self._bind(user, request, resource, body, warn)
            case "eviction":
                return await self._evict(user, request, resource, body, warn)
            case "token":
                return self._token(request, resource, body)
        raise refusals.MethodNotAllowed(
            f"the server does not allow create on {resource.kind.plural}/{request.subresource}"
        )

    async def _admitted(
        self,
        user: User,
        request: Request,
        resource: Resource,
        operation: Operation,
        body: Json,
        old: Json | None,
        warn: Warn,
    ) -> Json:
        """Return what was sent as the webhooks leave it."""
        api_version, kind = _POSTED[request.subresource]
        metadata = {"name": request.name, "namespace": request.namespace} | (body.get("metadata") or {})
        asked = AdmissionRequest(
            user=user,
            operation=operation,
            kind=resource.kind,
            namespace=request.namespace,
            name=request.name,
            subresource=request.subresource,
            object=body | {"apiVersion": api_version, "kind": kind, "metadata": metadata},
            old=old,
            options=options(request, operation),
            dry_run=request.dry_run,
        )
        admitted = await self._admission.posted(asked)
        for warning in asked.warnings:
            warn(warning)
        return admitted

    async def _bind(self, user: User, request: Request, resource: Resource, body: Json, warn: Warn) -> Answer:
        target = body.get("target") or {}
        if target.get("kind") not in {None, "", "Node"} or not target.get("name"):
            raise refusals.invalid(resource.kind, request.name, ("target", "must be a Node with a name"))
        given = body.get("metadata") or {}

        def propose(old: Json) -> Json:
            self._demand_bindable(request, resource, old, given.get("uid"))
            metadata = old["metadata"]
            if given.get("annotations"):
                metadata = merged(metadata, {"annotations": given["annotations"]})
            status = old.get("status") or {}
            conditions = set_condition(status.get("conditions"), "PodScheduled", "True", "", "", self._clock.now())
            # Kubernetes writes no reason and no message into this one.
            conditions = [{key: value for key, value in c.items() if value != ""} for c in conditions]
            spec = old["spec"] | {"nodeName": target["name"]}
            return old | {"metadata": metadata, "spec": spec, "status": status | {"conditions": conditions}}

        await self._writer.change(user, request, resource, propose, warn)
        return Answer(status=201, body=success(resource.kind, request.name))

    def _demand_bindable(self, request: Request, resource: Resource, pod: Json, uid: str | None) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        why = ""
        if uid and uid != metadata["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}"
        elif metadata.get("deletionTimestamp"):
            why = f"pod {request.name} is being deleted, cannot be assigned to a host"
        elif spec.get("nodeName"):
            why = f'pod {request.name} is already assigned to node "{spec["nodeName"]}"'
        elif spec.get("schedulingGates"):
            why = f"pod {request.name} has non-empty .spec.schedulingGates"
        if why:
            raise refusals.conflict(resource.kind, request.name, why)

    async def _evict(self, user: User, request: Request, resource: Resource, body: Json, warn: Warn) -> Answer:
        options = body.get("deleteOptions") or {}
        wanted = options.get("preconditions") or {}
        deletion = msgspec.structs.replace(
            request,
            verb="delete",
            subresource="",
            body=None,
            grace_s=options.get("gracePeriodSeconds", request.grace_s),
            propagation=options.get("propagationPolicy"),
            preconditions=Preconditions(wanted.get("uid") or "", wanted.get("resourceVersion") or ""),
            dry_run=request.dry_run or bool(options.get("dryRun")),
        )
        await self._remover.delete(user, deletion, resource, warn, is_eviction=True)
        return Answer(status=201, body=success(resource.kind, request.name))

    def _token(self, request: Request, resource: Resource, body: Json) -> Answer:
        if self._tokens is None:
            raise Unsupported("This server issues no tokens.", hint="Use a client certificate or a static token.")
        account = self._reader.get(msgspec.structs.replace(request, subresource=""), resource)
        spec = body.get("spec") or {}
        lifetime_s = spec.get("expirationSeconds") or _DEFAULT_LIFETIME_S
        if not isinstance(lifetime_s, int) or lifetime_s < _LEAST_LIFETIME_S:
            problem = ("spec.expirationSeconds", f"may not specify a duration less than {_LEAST_LIFETIME_S} seconds")
            raise refusals.invalid(resource.kind, request.name, problem)
        issued = self._tokens.issue(
            namespace=request.namespace,
            service_account=request.name,
            uid=account["metadata"]["uid"],
            audiences=tuple(spec.get("audiences") or ()),
            lifetime_s=lifetime_s,
            bound_to=self._bound_object(request, resource, spec.get("boundObjectRef")),
        )
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": request.name, "namespace": request.namespace},
            "spec": spec | {"expirationSeconds": lifetime_s},
            "status": {"token": issued.token, "expirationTimestamp": issued.expires},
        }
        return Answer(status=201, body=answer)

    def _bound_object(self, request: Request, resource: Resource, reference: Json | None) -> Json | None:
        """Return the reference with the uid of the object that is there, which the token will not outlive."""
        if not reference:
            return None
        kind = _BINDABLE.get(reference.get("kind", ""))
        if kind is None or not reference.get("name"):
            problem = ("spec.boundObjectRef", f"must name one of {', '.join(_BINDABLE)}")
            raise refusals.invalid(resource.kind, request.name, problem)
        wanted = msgspec.structs.replace(request, kind=kind, name=reference["name"], subresource="")
        found = self._reader.get(wanted, Resource(kind=kind))["metadata"]
        if reference.get("uid") not in {None, "", found["uid"]}:
            why = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record"
            raise refusals.conflict(kind, found["name"], why)
        return reference | {"uid": found["uid"]}

    async def scale(self, user: User, request: Request, resource: Resource, warn: Warn) -> Answer:
        """Read or change the number of replicas of a custom resource as an autoscaling/v1 Scale."""
        paths = resource.scale
        if paths is None:
            raise refusals.MethodNotAllowed(f"{resource.kind.resource} cannot be scaled")
        if request.verb == "get":
            return Answer(body=_scale(self._reader.get(request, resource), paths))
        if request.verb == "patch" and request.patch_type == "apply":
            raise Unsupported(
                "Server-side apply of a Scale is not served by this engine.",
                hint="Patch the scale, or apply the object itself.",
            )
        body = decoding.decode(request.body, request.field_validation, warn)
        now = _scale(self._reader.get(request, resource), paths)
        asked = self._new_scale(now, body, request, resource)
        admitted = await self._admitted(user, request, resource, "UPDATE", asked, now, warn)
        decided = None if admitted.get("spec") == asked.get("spec") else admitted

        def propose(old: Json) -> Json:
            new = decided or self._new_scale(_scale(old, paths), body, request, resource)
            version = (new.get("metadata") or {}).get("resourceVersion")
            if version and version != old["metadata"]["resourceVersion"]:
                raise refusals.modified(resource.kind, request.name)
            replicas = (new.get("spec") or {}).get("replicas", 0)
            if not isinstance(replicas, int) or replicas < 0:
                raise refusals.invalid(resource.kind, request.name, ("spec.replicas", "must be 0 or more"))
            changed: Json = merged(old, _nested(paths["specReplicasPath"], replicas))
            return changed

        return Answer(body=_scale(await self._writer.change(user, request, resource, propose, warn), paths))

    def _new_scale(self, before: Json, body: Any, request: Request, resource: Resource) -> Json:
        new = body if request.verb == "update" else patched(before, body, request.patch_type, resource)
        if not isinstance(new, dict):
            raise refusals.BadRequest("The body must be one Scale object.")
        return new


def _scale(raw: Json, paths: Json) -> Json:
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Json = {"replicas": _at(raw, paths["statusReplicasPath"]) or 0}
    if paths.get("labelSelectorPath"):
        status["selector"] = _at(raw, paths["labelSelectorPath"]) or ""
    return {
        "kind": "Scale",
        "apiVersion": _SCALE_VERSION,
        "metadata": {key: raw["metadata"][key] for key in shown if key in raw["metadata"]},
        "spec": {"replicas": _at(raw, paths["specReplicasPath"]) or 0},
        "status": status,
    }


def _at(raw: Json, path: str) -> Any:
    value: Any = raw
    for part in path.lstrip(".").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _nested(path: str, value: Any) -> Any:
    for part in reversed(path.lstrip(".").split(".")):
        value = {part: value}
    return value
