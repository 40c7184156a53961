"""In which order webhooks are asked: mutating ones one after the other, validating ones all at once.

Configurations are read from the store for every request, so that a write that was answered is in force: there is
nothing to follow and nothing to wait for. What was made of one is kept for as long as it is at that version.
Source: Kubernetes apiserver `pkg/admission/plugin/webhook/{mutating,validating}/dispatcher.go`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import anyio
import jsonpatch
import msgspec

from headrace.engine.pipeline import refusals
from headrace.engine.pipeline.decoding import copied
from headrace.engine.pipeline.refusals import BadRequest
from headrace.engine.pipeline.registry import Registry
from headrace.engine.pipeline.request import LOOPBACK, AdmissionRequest
from headrace.engine.pipeline.webhooks import review
from headrace.engine.pipeline.webhooks.matching import (
    NAMESPACES,
    Asked,
    Hook,
    Resource,
    is_exempt,
    matched,
    needs_namespace,
)
from headrace.engine.pipeline.webhooks.refusals import WebhookDenied, WebhookFailed
from headrace.engine.pipeline.webhooks.review import Unusable, Verdict
from headrace.engine.store.store import Key, Store
from headrace.errors import HeadraceError
from headrace.spec.core.webhooks import ValidatingWebhook, WebhookClientConfig
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import MUTATING_WEBHOOKS, NAMESPACE, VALIDATING_WEBHOOKS
from headrace.telemetry import logger

FAILED_OPEN = "webhook.failed_open"

Refine = Callable[[Json], Json]
"""Returns a changed object as it would be stored; raises InvalidSpec for one that is none of its kind."""

_KINDS = {
    "binding": "Binding",
    "eviction": "Eviction",
    "token": "TokenRequest",
    "scale": "Scale",
    "exec": "PodExecOptions",
    "attach": "PodAttachOptions",
    "portforward": "PodPortForwardOptions",
}
"""Kinds of what is written to subresources."""
_NOT_BORN = ("uid", "creationTimestamp", "generation")
"""What an object has not yet when it is mutated; the server adds it afterwards."""

_log = logger(component="webhooks")


class Caller(Protocol):
    """Reaches webhooks."""

    async def call(self, client: WebhookClientConfig, body: bytes, timeout_s: int) -> bytes:
        """Post a review and return the answer; raises Unusable with what continues `failed calling webhook "x": `."""
        ...


class NoCaller:
    """Of a server that cannot reach any: configurations are stored, and who they concern is told so."""

    async def call(self, client: WebhookClientConfig, body: bytes, timeout_s: int) -> bytes:  # noqa: ARG002
        raise Unusable("failed to call webhook: this server was started without a way to call any")


class Webhooks:
    """All webhooks of one server."""

    def __init__(self, store: Store, registry: Registry, caller: Caller) -> None:
        self._store = store
        self._registry = registry
        self._caller = caller
        self._known: dict[tuple[str, str], tuple[str, tuple[Hook, ...]]] = {}

    def mutation(self, request: AdmissionRequest, refine: Refine) -> Mutation | None:
        """Return what changes a request, None where no configuration could."""
        hooks = self._hooks(MUTATING_WEBHOOKS, request)
        return Mutation(self, hooks, refine) if hooks and not is_exempt(self.asked(request)) else None

    async def judge(self, request: AdmissionRequest) -> None:
        """Ask the validating webhooks, all at once; raises WebhookDenied and WebhookFailed."""
        hooks = self._hooks(VALIDATING_WEBHOOKS, request)
        asked = self.asked(request) if hooks else None
        if asked is None or is_exempt(asked):
            return
        concerned = [(hook, target) for hook in hooks if (target := self.target(hook, asked)) is not None]
        refused: dict[int, HeadraceError] = {}

        async def ask(place: int, hook: Hook, target: Resource) -> None:
            try:
                await self.ask(hook, request, asked, target, may_patch=False)
            except HeadraceError as error:
                refused[place] = error

        async with anyio.create_task_group() as tasks:
            for place, (hook, target) in enumerate(concerned):
                tasks.start_soon(ask, place, hook, target)
        if refused:
            raise refused[min(refused)]

    async def ask(
        self, hook: Hook, request: AdmissionRequest, asked: Asked, target: Resource, *, may_patch: bool
    ) -> Verdict | None:
        """Ask one webhook; None when it failed and that does not matter. Raises WebhookDenied, WebhookFailed."""
        webhook = hook.webhook
        if request.dry_run and hook.may_have_effects:
            raise BadRequest(f'admission webhook "{webhook.name}" does not support dry run')
        try:
            verdict = await self._verdict(webhook, request, asked, target, may_patch=may_patch)
        except Unusable as error:
            why = f'failed calling webhook "{webhook.name}": {error}'
            if webhook.failure_policy == "Ignore":
                _log.warning(FAILED_OPEN, configuration=hook.configuration, webhook=webhook.name, error=str(error))
                return None
            raise WebhookFailed(why) from error
        request.warnings.extend(verdict.warnings)
        if not verdict.is_allowed:
            raise WebhookDenied(review.refusal(webhook.name, verdict.status))
        return verdict

    async def _verdict(
        self, webhook: ValidatingWebhook, request: AdmissionRequest, asked: Asked, target: Resource, *, may_patch: bool
    ) -> Verdict:
        version = review.chosen_version(webhook.admission_review_versions)
        uid = str(uuid.uuid4())
        question = review.question(request, asked, target, uid, version)
        body = await self._caller.call(webhook.client_config, msgspec.json.encode(question), webhook.timeout_seconds)
        return review.answer(body, uid, version, may_patch=may_patch)

    def asked(self, request: AdmissionRequest) -> Asked:
        """Return what of a request decides which webhooks it concerns."""
        kind = request.kind
        resource = Resource(kind.group, kind.version, kind.plural)
        namespace = request.namespace or (request.name if resource == NAMESPACES else "")
        return Asked(
            operation=request.operation,
            resource=resource,
            kind=_KINDS.get(request.subresource, kind.name),
            subresource=request.subresource,
            namespace=namespace,
            # What has no metadata, as options of connections, meets no selector but the empty one.
            labels=[_labels(raw) for raw in (request.object, request.old) if raw is not None and "metadata" in raw],
            namespace_labels=self._namespace_labels(request, resource, namespace),
            equivalents=[
                Resource(other.kind.group, other.kind.version, other.kind.plural)
                for other in self._registry
                if (other.kind.group, other.kind.plural) == (kind.group, kind.plural)
                and other.kind.version != kind.version
            ],
        )

    def target(self, hook: Hook, asked: Asked) -> Resource | None:
        """Return as what a webhook is asked, None when it is not; raises NotFound for a namespace that is not there."""
        target = matched(hook.webhook, asked)
        if target is not None and needs_namespace(hook.webhook, asked):
            raise refusals.not_found(NAMESPACE, asked.namespace)
        return target

    def _namespace_labels(
        self, request: AdmissionRequest, resource: Resource, namespace: str
    ) -> Mapping[str, str] | None:
        if resource == NAMESPACES and not request.subresource and request.object is not None:
            return _labels(request.object)
        found = self._store.get(Key(NAMESPACE.resource, "", namespace)) if namespace else None
        return None if found is None else _labels(found.raw)

    def _hooks(self, kind: Kind[Any], request: AdmissionRequest) -> list[Hook]:
        """Return the webhooks of all configurations of a kind, by the configurations' names."""
        found: list[Hook] = []
        if request.user is LOOPBACK:
            return found
        configurations = self._store.page(kind.resource).items
        for raw in sorted(configurations, key=lambda raw: str(raw["metadata"]["name"])):
            found += self._made_of(kind, raw)
        return found

    def _made_of(self, kind: Kind[Any], raw: Json) -> tuple[Hook, ...]:
        name, version = raw["metadata"]["name"], raw["metadata"]["resourceVersion"]
        known = self._known.get((kind.name, name))
        if known is None or known[0] != version:
            view = msgspec.convert(raw, kind.view)
            hooks = tuple(Hook(name, f"{name}/{hook.name}/{place}", hook) for place, hook in enumerate(view.webhooks))
            known = self._known[kind.name, name] = version, hooks
        return known[1]


class Mutation:
    """One request's way through the mutating webhooks: once, and again for those who wish so when things changed."""

    def __init__(self, webhooks: Webhooks, hooks: Sequence[Hook], refine: Refine) -> None:
        self._webhooks = webhooks
        self._hooks = hooks
        self._refine = refine
        self._invoked: set[str] = set()
        self._again: set[str] = set()
        self._output: Json | None = None
        self.has_changed = False

    async def run(self, request: AdmissionRequest) -> Json | None:
        """Return the object as the webhooks leave it; raises WebhookDenied and WebhookFailed."""
        return await self._pass(request, is_again=False)

    async def run_again(self, request: AdmissionRequest) -> Json | None:
        """The same for an object that others may have changed after `run`; nobody is asked for the first time."""
        if request.object != self._output:
            self._require()
        return await self._pass(request, is_again=True)

    async def _pass(self, request: AdmissionRequest, *, is_again: bool) -> Json | None:
        current = request.object
        for hook in self._hooks:
            seen = msgspec.structs.replace(request, object=current)
            asked = self._webhooks.asked(seen)
            target = self._webhooks.target(hook, asked)
            if target is None or (is_again and hook.id not in self._again):
                continue
            changed = await self._ask(hook, seen, asked, target)
            if changed is not None and changed != current:
                current = changed
                self.has_changed = True
                self._require()
            if hook.is_reinvocable:
                self._invoked.add(hook.id)
        self._output = current
        return current

    def _require(self) -> None:
        """Whoever was asked before and wishes so is to be asked again."""
        self._again |= self._invoked
        self._invoked = set()

    async def _ask(self, hook: Hook, request: AdmissionRequest, asked: Asked, target: Resource) -> Json | None:
        shown = request.object
        hidden: Json = {}
        if shown is not None and request.operation == "CREATE":
            metadata = shown.get("metadata") or {}
            hidden = {field: metadata[field] for field in _NOT_BORN if field in metadata}
            shown = shown | {"metadata": {key: value for key, value in metadata.items() if key not in hidden}}
        shown_request = msgspec.structs.replace(request, object=shown)
        verdict = await self._webhooks.ask(hook, shown_request, asked, target, may_patch=True)
        if verdict is None or not verdict.patch:
            return None
        if shown is None or request.operation == "CONNECT":
            name = hook.webhook.name
            raise WebhookFailed(
                f'admission webhook "{name}" attempted to modify the object, which is not supported for this operation'
            )
        changed = _patched(shown | {"apiVersion": target.api_version}, verdict.patch)
        metadata = changed.get("metadata")
        if isinstance(metadata, dict):
            changed = changed | {"metadata": metadata | hidden}
        return self._refined(changed | {"apiVersion": shown["apiVersion"]}, hook)

    def _refined(self, changed: Json, hook: Hook) -> Json:
        try:
            return self._refine(changed)
        except HeadraceError as error:
            raise WebhookFailed(f'admission webhook "{hook.webhook.name}" made no valid object: {error}') from error


def _patched(raw: Json, operations: list[Any]) -> Json:
    try:
        changed: Any = jsonpatch.JsonPatch(operations).apply(copied(raw))
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, KeyError) as error:
        raise WebhookFailed(str(error)) from error
    if not isinstance(changed, dict):
        raise WebhookFailed("the patched document is no object")
    return changed


def _labels(raw: Json) -> Mapping[str, str]:
    metadata = raw.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return labels if isinstance(labels, dict) else {}
