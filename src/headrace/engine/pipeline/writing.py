"""create, update, patch and apply: from a body to a durable object, or one clear refusal and no effect.

Everything is decided against the head (what is committed plus what is on its way), so a refusal because of the head
waits until the head is settled: it could still be undone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from headrace.clock import Clock
from headrace.engine.pipeline import completion, decoding, lifecycle, refusals
from headrace.engine.pipeline.admission import Admission, options
from headrace.engine.pipeline.definitions import Definitions
from headrace.engine.pipeline.managing import (
    Managing,
    after_admission,
    bare,
    check_options,
    managed,
    owners,
    settled,
    unfit,
    with_sent,
)
from headrace.engine.pipeline.patching import patched
from headrace.engine.pipeline.reading import as_served, key_of
from headrace.engine.pipeline.refusals import Warn
from headrace.engine.pipeline.registry import Resource
from headrace.engine.pipeline.request import AdmissionRequest, Operation, Request, User
from headrace.engine.store.store import HeadMoved, Key, Store
from headrace.errors import AlreadyExists, Conflict, Denied, NotFound
from headrace.managedfields.applying import Unfit
from headrace.spec.kind import Json
from headrace.spec.kinds import NAMESPACE

_ATTEMPTS = 32
"""At changing an object that others change at the same moment, and at generating a name nobody has."""

Propose = Callable[[Json], Json]


class Made(NamedTuple):
    """An object that was written; `is_new` when there was none of its name before."""

    raw: Json
    is_new: bool = False


class Writer:
    """Writes objects."""

    def __init__(
        self, store: Store, admission: Admission, definitions: Definitions, managing: Managing, clock: Clock
    ) -> None:
        self._store = store
        self._admission = admission
        self._definitions = definitions
        self._managing = managing
        self._clock = clock

    async def create(self, user: User, request: Request, resource: Resource, warn: Warn) -> Json:
        """Make an object; raises AlreadyExists, InvalidSpec, NotFound (its namespace), Denied."""
        check_options(request)
        body = self._formed(decoding.decode(request.body, request.field_validation, warn), request, resource, warn)
        if resource.kind.namespaced and not request.namespace:
            raise refusals.BadRequest("an empty namespace may not be set during creation")
        self._demand_name(body, request)
        body = lifecycle.placed(body, resource, request.namespace)
        body = lifecycle.new_object(body, resource, request.namespace, self._clock.now())

        def owned(raw: Json) -> Json:
            return self._managing.created(raw, body, request, resource)

        return await self._make(user, request, resource, body, owned, warn)

    async def _make(
        self,
        user: User,
        request: Request,
        resource: Resource,
        body: Json,
        owned: Callable[[Json], Json],
        warn: Warn,
    ) -> Json:
        """Name, default, admit, validate and write a new object. `owned` returns it with its owners."""
        is_generated = not body["metadata"].get("name")
        for _ in range(_ATTEMPTS):
            raw = owned(completion.completed(lifecycle.with_name(bare(body)), resource, warn))
            raw = await self._admitted(user, request, resource, "CREATE", raw, None, warn)
            raw = self._definitions.judged(lifecycle.born(raw, resource), None, resource, user)
            completion.check(raw, None, resource, "", warn)
            self._definitions.check(raw, resource, warn)
            key = Key(resource.key, raw["metadata"].get("namespace", ""), raw["metadata"]["name"])
            self._demand_namespace(resource, key)
            await self._judge(user, request, resource, "CREATE", raw, None, warn)
            self._demand_namespace(resource, key)
            if request.dry_run and self._store.head(key) is None:
                return raw
            try:
                if request.dry_run:
                    raise HeadMoved
                stored = await self._store.write(key, self._stored(raw, resource), expected=0)
            except HeadMoved:
                if is_generated or await self._store.settle(key):
                    continue
                break
            self._definitions.stored(stored.raw, resource)
            return as_served(stored.raw, resource)
        raise refusals.already_exists(resource.kind, key.name)

    async def update(self, user: User, request: Request, resource: Resource, warn: Warn) -> Json:
        """Replace (`update`) or patch an object or its status; raises NotFound, Conflict, InvalidSpec, Denied."""
        check_options(request)
        body = decoding.decode(request.body, request.field_validation, warn)

        def propose(old: Json) -> Json:
            new = body if request.verb == "update" else patched(old, body, request.patch_type, resource)
            new = self._formed(new, request, resource, warn)
            new = lifecycle.placed(new, resource, request.namespace)
            self._demand_name(new, request)
            self._demand_version(new, old, request, resource)
            return lifecycle.changed_object(new, old, resource, request.subresource)

        return await self.change(user, request, resource, propose, warn)

    async def apply(
        self, user: User, request: Request, resource: Resource, may_create: Callable[[], None], warn: Warn
    ) -> Made:
        """Apply a configuration on the server, which makes the object where there is none.

        Args:
            may_create: raises Denied when the user may not make objects of the kind.

        Raises:
            ApplyConflict: when others own what would change.
            InvalidSpec, NotFound (its namespace, or the object of a subresource), Conflict, Denied: as in the others.
        """
        check_options(request)
        config = decoding.configuration(request.body, resource, request.field_validation, warn)
        key = key_of(request, resource)
        for _ in range(_ATTEMPTS):
            if self._store.head(key) is not None or request.subresource:

                def propose(old: Json) -> Json:
                    found = self._applied(old, config, request, resource)
                    self._demand_version(found, old, request, resource)
                    changed = lifecycle.changed_object(found, old, resource, request.subresource)
                    return managed(changed, owners(found) or [])

                try:
                    return Made(await self.change(user, request, resource, propose, warn))
                except NotFound:
                    if request.subresource:
                        raise
                    continue  # gone in the meantime
            may_create()
            try:
                return Made(await self._apply_anew(user, request, resource, config, warn), is_new=True)
            except AlreadyExists:
                continue
        raise refusals.modified(resource.kind, request.name)

    async def _apply_anew(self, user: User, request: Request, resource: Resource, config: Json, warn: Warn) -> Json:
        kind = resource.kind
        nothing = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {}}
        raw = self._applied(nothing, config, request, resource)
        raw["metadata"].pop("resourceVersion", None)  # a real API server looks at it only where there is an object
        uid = raw["metadata"].get("uid")
        if uid:
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise refusals.conflict(kind, request.name, why)
        body = lifecycle.new_object(raw, resource, request.namespace, self._clock.now())
        return await self._make(user, request, resource, body, lambda made: managed(made, owners(body) or []), warn)

    def _applied(self, old: Json, config: Json, request: Request, resource: Resource) -> Json:
        try:
            found = self._managing.applied(old, config, request, resource)
        except Unfit as error:
            raise refusals.UnfitConfiguration(unfit(error, config, resource)) from error
        raw = lifecycle.placed(found.raw, resource, request.namespace)
        metadata, uid = raw["metadata"], old["metadata"].get("uid")
        if not metadata.get("name"):
            what = f"the name of the object ({request.name} based on URL) was undeterminable: name must be provided"
            raise refusals.BadRequest(what)
        self._demand_name(raw, request)
        if uid and metadata.get("uid") != uid:
            what = f'Invalid value: "{metadata.get("uid")}": field is immutable'
            raise refusals.invalid(resource.kind, request.name, ("metadata.uid", what))
        return managed(decoding.merged(raw, resource), found.entries)

    async def change(self, user: User, request: Request, resource: Resource, propose: Propose, warn: Warn) -> Json:
        """Read, propose, admit, validate and write, again and again until nobody came in between.

        Args:
            propose: pure; makes the new object of the old one. A Conflict it raises is final once the head is settled.
        """
        key = key_of(request, resource)
        for _ in range(_ATTEMPTS):
            head = self._store.head(key)
            try:
                if head is None:
                    raise refusals.not_found(resource.kind, request.name)
                old = as_served(head.raw, resource)
                proposed = propose(old)
            except (Conflict, NotFound):
                if await self._store.settle(key):
                    continue
                raise
            raw = completion.completed(bare(proposed), resource, warn, request.subresource, old)
            raw = self._owned(old, proposed, raw, request, resource)
            raw = await self._admitted(user, request, resource, "UPDATE", raw, old, warn)
            if request.subresource != "binding":  # Kubernetes does not count it either
                raw = lifecycle.with_generation(raw, old, resource)
            raw = settled(self._definitions.judged(raw, old, resource, user), old)
            completion.check(raw, old, resource, request.subresource, warn)
            self._definitions.check(raw, resource, warn)
            await self._judge(user, request, resource, "UPDATE", raw, old, warn)
            if request.dry_run:
                return raw
            if raw == old:
                if await self._store.settle(key):
                    continue
                return old
            gone = lifecycle.is_gone(raw)
            try:
                written = None if gone else self._stored(raw, resource, old)
                stored = await self._store.write(key, written, expected=head.version)
            except HeadMoved:
                continue
            if gone:
                self._definitions.removed(stored.raw, resource)
                return raw
            self._definitions.stored(stored.raw, resource)
            return as_served(stored.raw, resource)
        raise refusals.modified(resource.kind, request.name)

    def _owned(self, old: Json, proposed: Json, raw: Json, request: Request, resource: Resource) -> Json:
        """Return the defaulted object with its owners: an apply has found them out itself, and a binding has none."""
        if request.subresource == "binding" or (request.verb == "patch" and request.patch_type == "apply"):
            return managed(raw, owners(proposed) or [])
        return self._managing.updated(old, raw, owners(proposed), request, resource)

    def _formed(self, value: Any, request: Request, resource: Resource, warn: Warn) -> Json:
        """Return an object that was sent as one of its kind. Its owners are looked at apart: they are long."""
        sent = decoding.as_kind(value, resource)
        formed = decoding.formed(bare(sent), resource, request.field_validation, warn)
        return with_sent(formed, owners(sent))

    async def _admitted(
        self,
        user: User,
        request: Request,
        resource: Resource,
        operation: Operation,
        raw: Json,
        old: Json | None,
        warn: Warn,
    ) -> Json:
        asked = self._asked(user, request, resource, operation, raw, old)

        def refine(changed: Json) -> Json:
            kept = decoding.formed(bare(changed), resource, "Ignore", warn)
            kept = completion.completed(kept, resource, warn, request.subresource)
            return managed(kept, owners(changed) or [])

        admitted = await self._admission.changed(asked, refine)
        for warning in asked.warnings:
            warn(warning)
        assert admitted is not None
        if admitted is raw:
            return raw
        admitted = after_admission(admitted, raw, warn)
        kept = completion.completed(bare(admitted), resource, warn, request.subresource)
        return managed(kept, owners(admitted) or [])

    async def _judge(
        self,
        user: User,
        request: Request,
        resource: Resource,
        operation: Operation,
        raw: Json,
        old: Json | None,
        warn: Warn,
    ) -> None:
        asked = self._asked(user, request, resource, operation, raw, old)
        await self._admission.judge(asked)
        for warning in asked.warnings:
            warn(warning)

    def _asked(
        self, user: User, request: Request, resource: Resource, operation: Operation, raw: Json, old: Json | None
    ) -> AdmissionRequest:
        return AdmissionRequest(
            user=user,
            operation=operation,
            kind=resource.kind,
            namespace=raw["metadata"].get("namespace", ""),
            name=raw["metadata"].get("name", ""),
            subresource=request.subresource,
            object=raw,
            old=old,
            options=options(request, operation),
            dry_run=request.dry_run,
        )

    def _demand_name(self, raw: Json, request: Request) -> None:
        given = raw["metadata"].get("name") or ""
        if request.name and given != request.name:
            raise refusals.BadRequest(
                f"the name of the object ({given}) does not match the name on the URL ({request.name})"
            )

    def _demand_version(self, new: Json, old: Json, request: Request, resource: Resource) -> None:
        metadata, head = new["metadata"], old["metadata"]
        uid, version = metadata.get("uid"), metadata.get("resourceVersion")
        if uid and uid != head["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {head['uid']}"
            raise refusals.conflict(resource.kind, request.name, why)
        if version and version != head["resourceVersion"]:
            raise refusals.modified(resource.kind, request.name)
        if not version and request.verb == "update" and resource.source != "builtin":
            raise refusals.invalid(
                resource.kind, request.name, ("metadata.resourceVersion", "must be specified for an update")
            )

    def _demand_namespace(self, resource: Resource, key: Key) -> None:
        """Refuse what would be made in a namespace that is not there, or that is being emptied.

        Looked up right before the write and in the head, so nothing slips in behind the namespace's last sweep.
        """
        if not resource.kind.namespaced:
            return
        namespace = self._store.head(Key(NAMESPACE.resource, "", key.namespace))
        if namespace is None:
            raise refusals.not_found(NAMESPACE, key.namespace)
        if namespace.raw["metadata"].get("deletionTimestamp"):
            raise Denied(
                f'{resource.kind.resource} "{key.name}" is forbidden: unable to create new content in namespace '
                f"{key.namespace} because it is being terminated"
            )

    def _stored(self, raw: Json, resource: Resource, old: Json | None = None) -> Json:
        """Return what the store gets: an object of its own, which shares with the one before what has not changed.

        Histories hold an object's earlier versions, and most changes are of a status or a label.
        """
        shared = _sharing(raw, old or {})
        metadata = _sharing(raw["metadata"], (old or {}).get("metadata") or {})  # the store writes the version into it
        return shared | {"metadata": metadata, "apiVersion": resource.stored_api_version}


def _sharing(new: Json, old: Json) -> Json:
    return {key: old[key] if key in old and old[key] == value else value for key, value in new.items()}
