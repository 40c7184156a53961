"""What the embedded server does itself with our kinds, on a cluster whose server knows them by their CRDs only.

Spellings are normalised and defaults filled in before an object is stored; afterwards everything that no schema can say
is checked, and fields that are accepted and not carried out are told of.
"""

from __future__ import annotations

from headrace.admission.review import Review
from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Json
from headrace.spec.names import FLUID_GROUP, HEADRACE_GROUP
from headrace.spec.validation import normalise, refuse, unsupported, validate

_GROUPS = {FLUID_GROUP, HEADRACE_GROUP}


class Normaliser:
    """Brings other spellings into the one that is stored, with a warning for each."""

    async def admit(self, request: Review) -> Json | None:
        """Return the object as it is to be stored, or None when it is so already."""
        if request.kind.group not in _GROUPS or request.subresource or request.object is None:
            return None
        if request.operation not in {"CREATE", "UPDATE"}:
            return None
        result, warnings = normalise(request.kind, request.object, request.old)
        request.warnings.extend(warnings)
        result = apply_defaults(request.kind, result)
        return result if result != request.object else None


class Validator:
    """Refuses what is wrong, and tells of what is not carried out."""

    async def admit(self, request: Review) -> Json | None:
        """Raise InvalidSpec with every mistake at once; never change anything."""
        body, old = request.object, request.old
        if request.kind.group not in _GROUPS or body is None or request.operation not in {"CREATE", "UPDATE"}:
            return None
        if (body.get("metadata") or {}).get("deletionTimestamp"):
            return None  # who takes the last finalizer off must not be held up by an older version's objects
        problems = validate(request.kind, body, old, subresource=request.subresource)
        if problems:
            raise refuse(request.kind, body, problems)
        if not request.subresource and (old is None or old.get("spec") != body.get("spec")):
            request.warnings.extend(f"{row.path} {row.message}" for row in unsupported(request.kind, body))
        return None
