"""`Pipeline`: the one `handle(user, request)` behind which everything lies.

It says who may (authoriser), finds the kind (registry), and hands the verb to the part that knows it. In-process
callers and the façade enter here alike, so that no rule holds for the one and not for the other.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headrace.clock import Clock
from headrace.engine.pipeline import refusals
from headrace.engine.pipeline.admission import Admission
from headrace.engine.pipeline.definitions import Definitions
from headrace.engine.pipeline.deleting import Remover
from headrace.engine.pipeline.managing import Managing
from headrace.engine.pipeline.reading import Reader
from headrace.engine.pipeline.refusals import Warn
from headrace.engine.pipeline.registry import Registry, Resource
from headrace.engine.pipeline.request import (
    AdmissionRequest,
    Admitter,
    AllowAll,
    Answer,
    Attributes,
    Authoriser,
    Request,
    TokenIssuer,
    User,
)
from headrace.engine.pipeline.subresources import Subresources
from headrace.engine.pipeline.webhooks.dispatch import Caller, NoCaller, Webhooks
from headrace.engine.pipeline.writing import Writer
from headrace.engine.store.store import Store
from headrace.errors import NotFound, Unsupported
from headrace.managedfields.sharing import share_entries
from headrace.spec.kind import Json
from headrace.spec.kinds import CRD

_OWN_PARTS = frozenset({"status", "finalize"})
_ABSENT = {
    "ephemeralcontainers": "Use kubectl exec, or add the container to the pod before it is made.",
    "resize": "Delete the pod and make it anew with other resources.",
}
_CONNECTIONS = frozenset({"log", "exec", "attach", "portforward", "proxy"})


class Pipeline:
    """The server without HTTP.

    Args:
        admitters: called in their order; `pipeline.admitters` may be appended to until the first request.
        tokens: signs service accounts' tokens; without it TokenRequest is Unsupported.
        caller: reaches webhooks; without it those that are configured cannot be called, and fail.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        clock: Clock,
        admitters: Iterable[Admitter] = (),
        authoriser: Authoriser | None = None,
        tokens: TokenIssuer | None = None,
        caller: Caller | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self.admitters = list(admitters)
        self.authoriser: Authoriser = authoriser or AllowAll()
        self.clock = clock
        definitions = Definitions(registry, clock)
        self._reader = Reader(store)
        self._admission = Admission(self.admitters, Webhooks(store, registry, caller or NoCaller()))
        self._writer = Writer(store, self._admission, definitions, Managing(registry, clock), clock)
        self._remover = Remover(store, self._reader, self._admission, definitions, clock)
        self._subresources = Subresources(self._writer, self._reader, self._remover, self._admission, tokens, clock)
        for raw in store.objects():
            share_entries(raw)
        for raw in store.page(CRD.resource).items:
            definitions.stored(raw, registry.of(CRD))

    async def handle(self, user: User, request: Request) -> Answer:
        """Carry out one call; raises an error of `headrace.errors`."""
        resource = self.registry.of(request.kind)
        self._authorise(user, request, resource)
        warnings: dict[str, None] = {}

        def warn(sentence: str) -> None:
            warnings[sentence] = None

        if request.subresource:
            answer = await self._handle_subresource(user, request, resource, warn)
        else:
            answer = await self._handle_object(user, request, resource, warn)
        answer.warnings = tuple(warnings)
        return answer

    async def connect(self, user: User, request: Request, options: Json) -> Json:
        """Authorise and admit a connection to an object, such as exec into a pod, and return the object as it is.

        A WebSocket is opened with GET, and who may only read may not connect: `create` is needed for all but logs.
        """
        resource = self.registry.of(request.kind)
        self._authorise(user, request, resource)
        if request.verb == "get" and request.subresource != "log":
            self._authorise(user, msgspec.structs.replace(request, verb="create"), resource)
        found = self._reader.get(request, resource)
        asked = AdmissionRequest(
            user=user,
            operation="CONNECT",
            kind=resource.kind,
            namespace=request.namespace,
            name=request.name,
            subresource=request.subresource,
            old=found,
            options=options,
        )
        await self._admission.connect(asked)
        return found

    async def _handle_object(self, user: User, request: Request, resource: Resource, warn: Warn) -> Answer:
        match request.verb:
            case "get":
                return Answer(body=self._reader.get(request, resource))
            case "list":
                return self._reader.list(request, resource)
            case "watch":
                return self._reader.watch(request, resource)
            case "create":
                if resource.is_ending:
                    raise refusals.MethodNotAllowed(
                        "create not allowed while custom resource definition is terminating"
                    )
                return Answer(status=201, body=await self._writer.create(user, request, resource, warn))
            case "update" | "patch":
                return await self._change(user, request, resource, warn)
            case "delete":
                return await self._remover.delete(user, request, resource, warn)
            case "deletecollection":
                return await self._remover.delete_collection(user, request, resource, warn)

    async def _handle_subresource(self, user: User, request: Request, resource: Resource, warn: Warn) -> Answer:
        name, verb = request.subresource, request.verb
        if name not in resource.kind.subresources:
            raise NotFound("the server could not find the requested resource")
        if name == "scale" and verb in {"get", "update", "patch"}:
            return await self._subresources.scale(user, request, resource, warn)
        if name in _OWN_PARTS and verb == "get":
            return Answer(body=self._reader.get(request, resource))
        if name in _OWN_PARTS and verb in {"update", "patch"}:
            return await self._change(user, request, resource, warn)
        if verb == "create" and name not in _CONNECTIONS and name not in _ABSENT:
            return await self._subresources.create(user, request, resource, warn)
        if name in _ABSENT:
            raise Unsupported(f"{resource.kind.plural}/{name} is not served by this engine.", hint=_ABSENT[name])
        raise refusals.MethodNotAllowed(f"the server does not allow {verb} on {resource.kind.plural}/{name}")

    async def _change(self, user: User, request: Request, resource: Resource, warn: Warn) -> Answer:
        if request.verb == "update" or request.patch_type != "apply":
            return Answer(body=await self._writer.update(user, request, resource, warn))

        def may_create() -> None:
            self._authorise(user, msgspec.structs.replace(request, verb="create"), resource)

        made = await self._writer.apply(user, request, resource, may_create, warn)
        return Answer(status=201 if made.is_new else 200, body=made.raw)

    def _authorise(self, user: User, request: Request, resource: Resource) -> None:
        attributes = Attributes(
            verb=request.verb,
            group=resource.kind.group,
            resource=resource.kind.plural,
            subresource=request.subresource,
            namespace=request.namespace,
            name=request.name,
        )
        why = self.authoriser.refusal(user, attributes)
        if why:
            raise refusals.forbidden(user, attributes, why)
