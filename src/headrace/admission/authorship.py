"""Stamps who submitted an object: `headrace.io/submitted-by`, what the bill shows, and it never changes.

An annotation and not a label, because user names are no label values. What a controller makes for somebody carries
that somebody's name already, so what trusted users write is believed.
"""

from __future__ import annotations

from headrace.admission.review import Review, Trusted
from headrace.errors import Denied
from headrace.spec.kind import Json
from headrace.spec.kinds import POD
from headrace.spec.names import FLUID_GROUP, HEADRACE_GROUP, SUBMITTED_BY_ANNOTATION


class Authorship:
    """Stamps every namespaced object of Headrace's and Fluid's kinds, and every pod."""

    def __init__(self, trusted: Trusted) -> None:
        self._trusted = trusted

    async def admit(self, request: Review) -> Json | None:
        """Stamp on CREATE, whatever the object says of itself; keep the stamp on UPDATE, and refuse another one."""
        if request.object is None or request.subresource or not _is_stamped(request):
            return None
        said = _annotation(request.object)
        if request.operation == "CREATE":
            if request.user.name in self._trusted and said:
                return None
            return _stamped(request.object, request.user.name) if said != request.user.name else None
        if request.operation != "UPDATE" or request.old is None:
            return None
        author = _annotation(request.old)
        if said == author or (request.user.name in self._trusted and not author):
            return None
        if said:
            raise Denied(
                f"The annotation {SUBMITTED_BY_ANNOTATION} of {request.kind.name} {request.name} says who submitted it and "
                "cannot change.",
                hint="Leave it as it is, or delete the object and submit it anew.",
            )
        return _stamped(request.object, author)


def _is_stamped(request: Review) -> bool:
    is_ours = request.kind.group in {HEADRACE_GROUP, FLUID_GROUP} and request.kind.namespaced
    return is_ours or request.kind.name == POD.name


def _annotation(raw: Json) -> str:
    return str(((raw.get("metadata") or {}).get("annotations") or {}).get(SUBMITTED_BY_ANNOTATION) or "")


def _stamped(raw: Json, author: str) -> Json:
    meta = raw.get("metadata") or {}
    annotations = {**(meta.get("annotations") or {}), SUBMITTED_BY_ANNOTATION: author}
    return {**raw, "metadata": {**meta, "annotations": annotations}}
