"""The patches a Kubernetes server takes, applied to raw JSON. Nothing given is changed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import jsonpatch

from headrace.cluster.protocol import JsonPatch, MergePatch
from headrace.errors import InvalidSpec
from headrace.spec.kind import Json


def patched(raw: Json, patch: MergePatch | JsonPatch) -> Json:
    """Return `raw` with a patch applied; raises InvalidSpec where it cannot be, as the API server answers 422."""
    match patch:
        case MergePatch():
            result: Json = _merged(copy.deepcopy(raw), copy.deepcopy(patch.body))
            return result
        case JsonPatch():
            return _operated(raw, patch.operations)


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _operated(raw: Json, operations: Sequence[Json]) -> Json:
    try:
        result: Json = jsonpatch.apply_patch(raw, copy.deepcopy(list(operations)))
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise InvalidSpec(
            f"The JSON patch cannot be applied: {error}.", hint="Read the object and try again."
        ) from error
    return result
