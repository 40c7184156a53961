"""Admission: every admitter in its order, each seeing what the one before made of the object, and then the webhooks."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headrace.engine.pipeline.decoding import copied
from headrace.engine.pipeline.request import AdmissionRequest, Admitter, Operation, Request
from headrace.engine.pipeline.webhooks.dispatch import Refine, Webhooks
from headrace.errors import EngineFailed
from headrace.spec.kind import Json

_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
_CONNECTIONS = {"exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions"}
_POSTED = frozenset({"binding", "eviction", "token", "scale"})
"""Subresources of which webhooks see what was sent, and not the object that changes by it."""
_FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "resourceVersion", "generation")


class Admission:
    """All admission of one server. `admitters` is the pipeline's own list and may grow."""

    def __init__(self, admitters: Sequence[Admitter], webhooks: Webhooks) -> None:
        self._admitters = admitters
        self._webhooks = webhooks

    async def admitted(self, request: AdmissionRequest) -> Json | None:
        """Return the object as the admitters leave it, without asking any webhook."""
        return await admit(self._admitters, request)

    async def changed(self, request: AdmissionRequest, refine: Refine) -> Json | None:
        """Return the object as admitters and mutating webhooks leave it; the very one given when nobody changed it.

        When a webhook has changed it, the admitters see it again, and then those webhooks that wish so.

        Args:
            refine: fills in what is not said in a changed object; raises InvalidSpec.
        """
        mutation = None if request.subresource in _POSTED else self._webhooks.mutation(request, refine)
        admitted = await admit(self._admitters, request)
        if mutation is None:
            return admitted
        if admitted is not None and admitted is not request.object:
            admitted = refine(admitted)
        mutated = await mutation.run(msgspec.structs.replace(request, object=admitted))
        if not mutation.has_changed:
            return admitted
        _demand_same(mutated, request)
        again = await admit(self._admitters, msgspec.structs.replace(request, object=mutated))
        if again is not None and again is not mutated:
            again = refine(again)
        mutated = await mutation.run_again(msgspec.structs.replace(request, object=again))
        _demand_same(mutated, request)
        return mutated

    async def connect(self, request: AdmissionRequest) -> None:
        """Admit a connection to an object, given as `old`; webhooks see its options as what is written."""
        await admit(self._admitters, request)
        kind = _CONNECTIONS.get(request.subresource)
        if kind is None:
            return
        said = {key: value for key, value in request.options.items() if value}
        asked = msgspec.structs.replace(
            request, object={"kind": kind, "apiVersion": "v1", **said}, old=None, options={}
        )
        mutation = self._webhooks.mutation(asked, lambda raw: raw)
        if mutation is not None:
            await mutation.run(asked)
        await self._webhooks.judge(asked)

    async def judge(self, request: AdmissionRequest) -> None:
        """Ask the validating webhooks about the object as it would be stored; raises what they refuse."""
        if request.subresource not in _POSTED:
            await self._webhooks.judge(request)

    async def posted(self, request: AdmissionRequest) -> Json:
        """Return what was posted to a subresource, such as an Eviction, as the webhooks leave it.

        Admitters have no part in it: they see what becomes of the object.
        """
        assert request.object is not None
        mutation = self._webhooks.mutation(request, lambda raw: raw)
        mutated = request.object
        if mutation is not None:
            mutated = await mutation.run(request) or mutated
        await self._webhooks.judge(msgspec.structs.replace(request, object=mutated))
        return mutated


def options(request: Request, operation: Operation) -> Json:
    """Return the options of a write as webhooks see them."""
    said: Json = {"kind": _OPTIONS[operation], "apiVersion": "meta.k8s.io/v1"}
    if request.verb == "patch":
        said["kind"] = "PatchOptions" if operation == "UPDATE" else said["kind"]
    if request.dry_run:
        said["dryRun"] = ["All"]
    if operation != "DELETE":
        return said | ({"fieldManager": request.field_manager} if request.field_manager else {})
    if request.grace_s is not None:
        said["gracePeriodSeconds"] = request.grace_s
    if request.propagation is not None:
        said["propagationPolicy"] = request.propagation
    return said


def _demand_same(answer: Json | None, request: AdmissionRequest) -> None:
    if answer is None or request.object is None or not _is_same(answer, request.object):
        raise EngineFailed(
            f"A webhook changed what identifies the {request.kind.name} {request.name}.",
            hint="A webhook may change anything but the names, uid, version and times of an object.",
        )


async def admit(admitters: Sequence[Admitter], request: AdmissionRequest) -> Json | None:
    """Return the admitted object; the very one given when nobody changed it. Raises what an admitter raises.

    An admitter that changes the object's identity is at fault (EngineFailed): it could move a write elsewhere.
    """
    current = request.object
    for admitter in admitters:
        answer = await admitter.admit(msgspec.structs.replace(request, object=current))
        if answer is None or answer is current:
            continue
        if current is None or not _is_same(answer, current):
            raise EngineFailed(
                f"The admitter {type(admitter).__name__} changed what identifies the {request.kind.name} "
                f"{request.name}.",
                hint="An admitter may change anything but the names, uid, version and times of an object.",
            )
        current = copied(answer)
    return current


def _is_same(answer: Json, before: Json) -> bool:
    new, old = answer.get("metadata") or {}, before["metadata"]
    return all(new.get(field) == old.get(field) for field in _FIXED)
