"""Names of the conditions and reasons this package writes, and how a list of them becomes a patch.

Several reconcilers write conditions of one Dataset. A merge patch replaces the whole list, so each patch carries the
version it was made from: whoever comes second gets Conflict and decides again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Any

from headrace.clock import parse_time
from headrace.data.act import Patch
from headrace.errors import HeadraceError
from headrace.spec.conditions import Status, set_condition
from headrace.spec.kind import Doc, Json

READY = "Ready"
MOUNT_VERIFIED = "MountVerified"
UNSUPPORTED = "Unsupported"
CLAIM_DATASET_READY = "headrace.io/DatasetReady"
"""On a labelled PVC: whether the Dataset behind it can be used."""

CLAIM_MOUNT_VERIFIED = "headrace.io/MountVerified"
"""On a labelled PVC: whether its data has really been listed wherever it may go."""

BOUND, NOT_BOUND, FAILED, PENDING = "Bound", "NotBound", "Failed", "Pending"
"""Phases of a Dataset, as Fluid has them."""


def with_condition(
    conditions: Iterable[Json] | None,
    type: str,
    status: Status,
    reason: str,
    message: str,
    *,
    now: dt.datetime,
    generation: int | None = None,
) -> list[Json]:
    """Return the list with this condition set; the same list when it says so already."""
    return set_condition(list(conditions or ()), type, status, reason, message, now, generation)


def status_patch(doc: Doc[Any], wanted: Mapping[str, Any]) -> Patch | None:
    """Return the patch that makes these keys of the status so; None when they are."""
    changed = {key: value for key, value in wanted.items() if doc.status.get(key) != value}
    if not changed:
        return None
    body = {"metadata": {"resourceVersion": doc.version}, "status": changed}
    return Patch(doc.kind, doc.ref, body, "status")


def is_younger(doc: Doc[Any], age_s: float, now: dt.datetime) -> bool:
    """Tell whether an object was made less than `age_s` ago; its time is in whole seconds, so a second earlier perhaps."""
    made = str(doc.meta.get("creationTimestamp") or "")
    return bool(made) and (now - parse_time(made)).total_seconds() < age_s


def sentence(error: HeadraceError) -> str:
    """Return what a condition says of an error."""
    return str(error)


def nearest_first(wanted: str, names: Iterable[str]) -> str:
    """Return names for a message: the one most like `wanted` first, at most eight."""
    ranked = sorted(names, key=lambda name: (-SequenceMatcher(None, wanted, name).ratio(), name))
    shown = ", ".join(ranked[:8])
    return f"{shown} and {len(ranked) - 8} more" if len(ranked) > 8 else shown
