"""create, update and patch: from a body to a durable object, or one clear refusal and no effect.

Everything is decided against the head (what is committed plus what is on its way), so a refusal because of the head
waits until the head is settled: it could still be undone.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace.clock import Clock
from headrace.engine.pipeline import completion, decoding, lifecycle, refusals
from headrace.engine.pipeline.admission import Admission, options
from headrace.engine.pipeline.definitions import Definitions
from headrace.engine.pipeline.patching import check_supported, patched
from headrace.engine.pipeline.reading import as_served, key_of
from headrace.engine.pipeline.refusals import Warn
from headrace.engine.pipeline.registry import Resource
from headrace.engine.pipeline.request import AdmissionRequest, Operation, Request, User
from headrace.engine.store.store import HeadMoved, Key, Store
from headrace.errors import Conflict, Denied, NotFound
from headrace.spec.kind import Json
from headrace.spec.kinds import NAMESPACE

_ATTEMPTS = 32
"""At changing an object that others change at the same moment, and at generating a name nobody has."""

Propose = Callable[[Json], Json]


class Writer:
    """Writes objects."""

    def __init__(self, store: Store, admission: Admission, definitions: Definitions, clock: Clock) -> None:
        self._store = store
        self._admission = admission
        self._definitions = definitions
        self._clock = clock

    async def create(self, user: User, request: Request, resource: Resource, warn: Warn) -> Json:
        """Make an object; raises AlreadyExists, InvalidSpec, NotFound (its namespace), Denied."""
        body = decoding.decode(request.body, request.field_validation, warn)
        body = decoding.formed(decoding.as_kind(body, resource), resource, request.field_validation, warn)
        if resource.kind.namespaced and not request.namespace:
            raise refusals.BadRequest("an empty namespace may not be set during creation")
        self._demand_name(body, request)
        body = lifecycle.new_object(body, resource, request.namespace, self._clock.now())
        is_generated = not body["metadata"].get("name")
        for _ in range(_ATTEMPTS):
            raw = completion.completed(lifecycle.with_name(body), resource, warn)
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
        if request.verb == "patch":
            check_supported(request.patch_type)
        body = decoding.decode(request.body, request.field_validation, warn)

        def propose(old: Json) -> Json:
            new = body if request.verb == "update" else patched(old, body, request.patch_type, resource)
            new = decoding.formed(decoding.as_kind(new, resource), resource, request.field_validation, warn)
            self._demand_name(new, request)
            self._demand_version(new, old, request, resource)
            return lifecycle.changed_object(new, old, resource, request.subresource)

        return await self.change(user, request, resource, propose, warn)

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
                raw = completion.completed(propose(old), resource, warn)
            except (Conflict, NotFound):
                if await self._store.settle(key):
                    continue
                raise
            raw = await self._admitted(user, request, resource, "UPDATE", raw, old, warn)
            if request.subresource != "binding":  # Kubernetes does not count it either
                raw = lifecycle.with_generation(raw, old, resource)
            raw = self._definitions.judged(raw, old, resource, user)
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
            kept = decoding.formed(changed, resource, "Ignore", warn)
            return completion.completed(kept, resource, warn)

        admitted = await self._admission.changed(asked, refine)
        for warning in asked.warnings:
            warn(warning)
        assert admitted is not None
        return raw if admitted is raw else completion.completed(admitted, resource, warn)

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
