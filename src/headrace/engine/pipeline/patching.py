"""JSON patches (RFC 6902) and merge patches (RFC 7386), and the choice between the kinds of patches."""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer

from headrace.engine.openapi.merge_keys import supports_strategic_merge
from headrace.engine.pipeline.decoding import copied
from headrace.engine.pipeline.refusals import BadRequest, UnsupportedMediaType, invalid
from headrace.engine.pipeline.registry import Resource
from headrace.engine.pipeline.request import PatchType
from headrace.engine.pipeline.strategic import strategic_merge
from headrace.spec.kind import Json

_MAX_OPERATIONS = 10_000


def patched(current: Json, patch: Any, patch_type: PatchType, resource: Resource) -> Json:
    """Return what the patch makes of `current`, which is not changed.

    Raises BadRequest for what is no patch, InvalidSpec where it does not apply. Server-side apply is no patch of one
    object by another but a matter of owners, and is not done here.
    """
    match patch_type:
        case "json":
            return _json_patched(current, patch, resource)
        case "merge":
            result: Json = merged(current, _as_object(patch))
            return result
        case "strategic":
            if not supports_strategic_merge(resource.kind):
                raise UnsupportedMediaType(
                    f"{resource.kind.name} is a custom resource and cannot be patched by strategic merge.",
                    hint="Use a merge patch (kubectl patch --type=merge).",
                )
            return strategic_merge(current, _as_object(patch), resource.kind)
        case "apply":
            raise AssertionError("an apply is no patch of one object by another")


def merged(target: Any, patch: Any) -> Any:
    """Return the merge of RFC 7386; unchanged parts are shared with `target`."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _json_patched(current: Json, patch: Any, resource: Resource) -> Json:
    if not isinstance(patch, list) or len(patch) > _MAX_OPERATIONS:
        raise BadRequest(f"A JSON patch must be a list of at most {_MAX_OPERATIONS} operations.")
    name = current["metadata"]["name"]
    try:
        result = jsonpatch.JsonPatch(patch).apply(copied(current), in_place=True)
    except jsonpatch.JsonPatchTestFailed as error:
        raise invalid(resource.kind, name, ("patch", f"a test did not hold: {error}")) from error
    except (jsonpatch.JsonPatchConflict, jsonpointer.JsonPointerException) as error:
        raise invalid(resource.kind, name, ("patch", f"does not apply to the object: {error}")) from error
    except (jsonpatch.InvalidJsonPatch, TypeError, KeyError) as error:
        raise BadRequest(f"The JSON patch cannot be read: {error}.") from error
    return _as_object(result)


def _as_object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise BadRequest("A patch must be, and result in, a JSON object.")
    return value
