"""delete and deletecollection: at once, or marked and kept until grace, finalizers and dependants are done."""

from __future__ import annotations

import msgspec

from headrace.clock import Clock
from headrace.engine.pipeline import lifecycle, refusals
from headrace.engine.pipeline.admission import Admission, options
from headrace.engine.pipeline.definitions import Definitions
from headrace.engine.pipeline.reading import Reader, as_served, key_of
from headrace.engine.pipeline.refusals import Warn
from headrace.engine.pipeline.registry import Resource
from headrace.engine.pipeline.request import AdmissionRequest, Answer, Preconditions, Request, User
from headrace.engine.pipeline.status import success
from headrace.engine.store.store import HeadMoved, Store
from headrace.errors import Conflict, Denied, NotFound
from headrace.spec.kind import Json
from headrace.spec.kinds import CRD, NAMESPACE

_ATTEMPTS = 32
_IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class Remover:
    """Deletes objects."""

    def __init__(
        self, store: Store, reader: Reader, admission: Admission, definitions: Definitions, clock: Clock
    ) -> None:
        self._store = store
        self._reader = reader
        self._admission = admission
        self._definitions = definitions
        self._clock = clock

    async def delete(
        self, user: User, request: Request, resource: Resource, warn: Warn, *, is_eviction: bool = False
    ) -> Answer:
        """Ask for an object's deletion; the answer is a Status when it is gone and the object when it is not yet.

        Args:
            is_eviction: webhooks have been asked about the eviction, and are not asked about the deletion.

        Raises NotFound, Conflict (preconditions), Denied.
        """
        await self._admit(user, request, resource, warn, is_eviction=is_eviction)
        key = key_of(request, resource)
        for _ in range(_ATTEMPTS):
            head = self._store.head(key)
            try:
                if head is None:
                    raise refusals.not_found(resource.kind, request.name)
                self._demand(head.raw, request, resource)
            except (Conflict, NotFound):
                if await self._store.settle(key):
                    continue
                raise
            left = lifecycle.marked(
                head.raw, now=self._clock.now(), grace_s=request.grace_s, propagation=request.propagation
            )
            done = success(resource.kind, request.name, head.raw["metadata"]["uid"])
            if request.dry_run:
                return Answer(body=done if left is None else as_served(left, resource))
            if left == head.raw:
                if await self._store.settle(key):
                    continue
                return Answer(body=as_served(head.raw, resource))
            try:
                stored = await self._store.write(key, left, expected=head.version)
            except HeadMoved:
                continue
            if left is None:
                self._definitions.removed(stored.raw, resource)
                return Answer(body=done)
            self._definitions.stored(stored.raw, resource)
            return Answer(body=as_served(stored.raw, resource))
        raise refusals.modified(resource.kind, request.name)

    async def delete_collection(self, user: User, request: Request, resource: Resource, warn: Warn) -> Answer:
        """Ask for the deletion of all objects that the selectors match; the answer lists them as they were."""
        found = self._reader.list(request, resource)
        for raw in found.body["items"]:
            metadata: Json = raw["metadata"]
            one = msgspec.structs.replace(
                request,
                verb="delete",
                namespace=metadata.get("namespace", ""),
                name=metadata["name"],
                preconditions=Preconditions(uid=metadata["uid"]),
            )
            try:
                await self.delete(user, one, resource, warn)
            except (NotFound, Conflict):
                continue  # somebody else was quicker, and it is gone or another one
        return found

    async def _admit(self, user: User, request: Request, resource: Resource, warn: Warn, *, is_eviction: bool) -> None:
        stored = self._store.head(key_of(request, resource))
        if stored is None:
            return
        if resource.kind is NAMESPACE and request.name in _IMMORTAL:
            raise Denied(f'namespaces "{request.name}" is forbidden: this namespace may not be deleted')
        if resource.kind is CRD and self._definitions.is_servers_own(stored.raw):
            raise Denied(f'{CRD.resource} "{request.name}" is forbidden: Headrace itself serves it')
        asked = AdmissionRequest(
            user=user,
            operation="DELETE",
            kind=resource.kind,
            namespace=request.namespace,
            name=request.name,
            old=as_served(stored.raw, resource),
            options=options(request, "DELETE"),
            dry_run=request.dry_run,
        )
        if is_eviction:
            await self._admission.admitted(asked)
        else:
            await self._admission.changed(asked, lambda raw: raw)
            await self._admission.judge(asked)
        for warning in asked.warnings:
            warn(warning)

    def _demand(self, raw: Json, request: Request, resource: Resource) -> None:
        wanted, metadata = request.preconditions, raw["metadata"]
        if wanted.uid and wanted.uid != metadata["uid"]:
            why = f"Precondition failed: UID in precondition: {wanted.uid}, UID in object meta: {metadata['uid']}"
            raise refusals.conflict(resource.kind, request.name, why)
        if wanted.version and wanted.version != metadata["resourceVersion"]:
            why = (
                f"Precondition failed: ResourceVersion in precondition: {wanted.version}, ResourceVersion in object "
                f"meta: {metadata['resourceVersion']}"
            )
            raise refusals.conflict(resource.kind, request.name, why)
