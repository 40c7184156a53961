"""Admission: every admitter in its order, each seeing what the one before made of the object."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headrace.engine.pipeline.decoding import copied
from headrace.engine.pipeline.request import AdmissionRequest, Admitter
from headrace.errors import EngineFailed
from headrace.spec.kind import Json

_FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "resourceVersion", "generation")


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
