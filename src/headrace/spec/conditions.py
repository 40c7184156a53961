"""Conditions as raw JSON: set, find, remove. Pure; the same state gives the same list, so no patch is written for it.

Source: Kubernetes API conventions, "Typical status properties"; apimachinery `meta.SetStatusCondition`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from headrace.clock import format_time
from headrace.spec.kind import Doc, Json

Status = Literal["True", "False", "Unknown"]


def set_condition(
    conditions: Sequence[Json] | None,
    type: str,
    status: Status,
    reason: str,
    message: str,
    now: dt.datetime,
    generation: int | None = None,
) -> list[Json]:
    """Return `conditions` with one of this type set; nothing given is changed.

    `lastTransitionTime` moves only when `status` changes; order and unknown keys are kept. Idempotent: setting what
    is already there returns an equal list, whatever `now` is.
    """
    wanted: Json = {"type": type, "status": status, "reason": reason, "message": message}
    if generation is not None:
        wanted["observedGeneration"] = generation
    result: list[Json] = []
    found = False
    for condition in conditions or ():
        if condition.get("type") != type:
            result.append(condition)
            continue
        if found:
            continue
        found = True
        moved = condition.get("status") != status or not condition.get("lastTransitionTime")
        since = format_time(now) if moved else condition["lastTransitionTime"]
        result.append({**condition, **wanted, "lastTransitionTime": since})
    if not found:
        result.append({**wanted, "lastTransitionTime": format_time(now)})
    return result


def without_condition(conditions: Sequence[Json] | None, *types: str) -> list[Json]:
    """Return `conditions` without those of the given types."""
    return [condition for condition in conditions or () if condition.get("type") not in types]


def find_condition(source: Doc[Any] | Iterable[Json] | None, type: str) -> Json | None:
    """Return the condition of this type in an object's status, or in a list; None where there is none."""
    conditions = (source.status.get("conditions") or ()) if isinstance(source, Doc) else (source or ())
    return next((condition for condition in conditions if condition.get("type") == type), None)


def is_true(source: Doc[Any] | Iterable[Json] | None, type: str) -> bool:
    """Tell whether the condition of this type is there and True."""
    condition = find_condition(source, type)
    return condition is not None and condition.get("status") == "True"
