"""Who owns which field in the fake: the same rules as the engine's, over types the fake knows.

Kinds are typed by their views, which of core kinds are a part only; their lists, but for those of metadata, are owned as
a whole.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Any

from headrace.clock import format_time
from headrace.cluster.protocol import ServerSideApply
from headrace.errors import InvalidSpec
from headrace.managedfields.applying import Unfit, applied
from headrace.managedfields.ownership import Ownership, Reset
from headrace.managedfields.schemas import custom_type
from headrace.spec.crds import schema
from headrace.spec.kind import Json, Kind, Ref
from headrace.spec.names import HEADRACE_GROUP
from headrace.spec.view import without_nulls

_KEEPS_UNKNOWN: Json = {"x-kubernetes-preserve-unknown-fields": True}
MANAGER = "headrace"
"""Who writes without saying who it is."""


def owned(kind: Kind[Any], old: Json | None, new: Json, given: Any, subresource: str, now: dt.datetime) -> Json:
    """Return an object, made or changed by anything but an apply, with its owners as they are now."""
    entries = _rules(kind, subresource).after_update(old, new, given, MANAGER, format_time(now))
    return with_owners(new, entries)


def apply(
    kind: Kind[Any], ref: Ref, old: Json | None, patch: ServerSideApply, subresource: str, now: dt.datetime
) -> Json:
    """Return what an apply makes of `old`, or of nothing, its owners included.

    Raises ApplyConflict, InvalidSpec.
    """
    identity = {"apiVersion": kind.api_version, "kind": kind.name}
    if not patch.manager:
        raise InvalidSpec("An apply needs a manager.", causes=(("fieldManager", "is required for apply patch"),))
    if (patch.body.get("metadata") or {}).get("managedFields") is not None:
        raise InvalidSpec("metadata.managedFields must be nil", code="BadRequest")
    if (patch.body.get("metadata") or {}).get("name") != ref.name:
        raise InvalidSpec(f"The configuration must name {ref.name}.", hint="Set metadata.name.", code="BadRequest")
    config = {**identity, **patch.body}
    rules = _rules(kind, subresource)
    try:
        found = applied(rules, old or identity, config, patch.manager, force=patch.force, now=format_time(now))
    except Unfit as error:
        raise InvalidSpec(f"The configuration does not fit {kind.name}: {error}") from error
    raw = without_nulls(found.raw)
    if ref.namespace:
        raw["metadata"].setdefault("namespace", ref.namespace)
    return with_owners(raw, found.entries)


def kept(new: Json, wanted: Json) -> Json:
    """Return `new` with the owners of `wanted`."""
    return with_owners(new, wanted["metadata"].get("managedFields"))


def with_owners(raw: Json, entries: Any) -> Json:
    """Return the object with these `managedFields`."""
    metadata = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
    return {**raw, "metadata": metadata | ({"managedFields": entries} if entries else {})}


@cache
def _rules(kind: Kind[Any], subresource: str) -> Ownership:
    type_ = custom_type(schema(kind) | ({} if kind.group == HEADRACE_GROUP else _KEEPS_UNKNOWN))
    if subresource == "status":
        reset = Reset(fields=frozenset({"spec", "metadata"}))
    else:
        reset = Reset(fields=frozenset({"status"})) if kind.has_status else Reset()
    return Ownership(
        version=kind.api_version,
        types=lambda version: type_ if version == kind.api_version else None,
        subresource=subresource,
        reset=reset,
        is_fixed=True,
    )
