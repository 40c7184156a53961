"""Turns an object or a list into a `meta.k8s.io/v1` Table, and a watch's objects into Tables of one row."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Any, Literal

from headrace.engine.tables.columns import Layout
from headrace.engine.tables.core import CORE_LAYOUTS
from headrace.engine.tables.custom import custom_layout
from headrace.spec.kind import Json, Kind

IncludeObject = Literal["Metadata", "None", "Object"]

_COMPLETED: dict[str, Json] = {
    "Succeeded": {
        "type": "Completed",
        "status": "True",
        "reason": "Succeeded",
        "message": "The pod has completed successfully.",
    },
    "Failed": {"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."},
}


def layout_of(kind: Kind[Any]) -> Layout:
    """Return how a kind is printed."""
    return CORE_LAYOUTS.get((kind.group, kind.name)) or _custom(kind.columns)


_custom = lru_cache(maxsize=256)(custom_layout)


def table(
    kind: Kind[Any], body: Json, now: dt.datetime, *, include: IncludeObject = "Metadata", headers: bool = True
) -> Json:
    """Return the Table of an object or a list of objects.

    Args:
        body: one object of `kind`, or a list, which has `items`.
        include: what each row carries of its object; kubectl asks for `Object` when it sorts or watches.
        headers: False leaves the column definitions out, as in a watch after its first event.
    """
    layout = layout_of(kind)
    is_list = "items" in body and kind.name != body.get("kind")
    objects: list[Json] = body["items"] if is_list else [body]
    meta: Json = body.get("metadata") or {}
    kept = ("resourceVersion", "continue", "remainingItemCount") if is_list else ("resourceVersion",)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "columnDefinitions": [column.definition() for column in layout.columns] if headers else None,
        "rows": [_row(kind, layout, raw, now, include) for raw in objects],
    }


def partial(raw: Json) -> Json:
    """Return the PartialObjectMetadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": raw.get("metadata") or {}}


def partial_list(body: Json) -> Json:
    """Return the PartialObjectMetadataList of a list."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": body.get("metadata") or {},
        "items": [partial(raw) for raw in body.get("items") or ()],
    }


def _row(kind: Kind[Any], layout: Layout, raw: Json, now: dt.datetime, include: IncludeObject) -> Json:
    row: Json = {"cells": layout.row(raw, now)}
    if include == "Object":
        row["object"] = {"kind": kind.name, "apiVersion": kind.api_version, **raw}
    elif include == "Metadata":
        row["object"] = partial(raw)
    ended = _COMPLETED.get((raw.get("status") or {}).get("phase", "")) if kind.name == "Pod" else None
    if ended is not None:
        row["conditions"] = [ended]
    return row
