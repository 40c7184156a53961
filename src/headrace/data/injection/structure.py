"""What of a pod we made ourselves, told by its structure alone: names and labels can be set by anybody.

The admission chain may call us again on our own result, with the API server's defaults and other webhooks' additions
in it. So ours is recognised by *covering*: everything we would render is there, whatever else is.
"""

from __future__ import annotations

import re
from typing import Any

from headrace.data.client import ResolvedDataset
from headrace.data.injection.uses import CONTAINER_LISTS
from headrace.data.modes.mode import Parts
from headrace.errors import InvalidSpec
from headrace.spec.kind import Json
from headrace.spec.names import MATERIALISE_PREFIX, SIDECAR_PREFIX
from headrace.units import parse_quantity

_OURS = re.compile(f"(?:{SIDECAR_PREFIX}|{MATERIALISE_PREFIX})(\\d+)")
_KEYS = ("name", "mountPath")


def covers(actual: Any, rendered: Any) -> bool:
    """Tell whether `actual` says all that `rendered` says. Lists of named things may hold more, in any order."""
    if isinstance(rendered, dict):
        return isinstance(actual, dict) and all(covers(actual.get(key), value) for key, value in rendered.items())
    if isinstance(rendered, list | tuple):
        if not isinstance(actual, list | tuple):
            return False
        if all(isinstance(item, dict) for item in rendered):
            return all(any(covers(have, item) for have in actual if _same_key(have, item)) for item in rendered)
        return list(actual) == list(rendered)
    return bool(actual == rendered) or _same_quantity(actual, rendered)


def next_index(pod: Json) -> int:
    """Return the first number that no container of ours uses."""
    taken = [int(match[1]) for name in _container_names(pod) if (match := _OURS.fullmatch(name))]
    return max(taken, default=-1) + 1


def holds(pod: Json, parts: Parts) -> bool:
    """Tell whether `parts` are in the pod already, whole."""
    spec = pod.get("spec") or {}
    name = parts.container["name"]
    container = next((c for c in spec.get("initContainers") or [] if c.get("name") == name), None)
    return covers(container, parts.container) and covers(spec.get("volumes") or [], list(parts.volumes))


def taken_indexes(pod: Json, prefix: str) -> list[int]:
    """Return the numbers of init containers whose names begin with `prefix`."""
    names = [str(c.get("name", "")) for c in (pod.get("spec") or {}).get("initContainers") or []]
    return [int(m[1]) for name in names if name.startswith(prefix) and (m := _OURS.fullmatch(name))]


def refuse_reserved_names(pod: Json, dataset: ResolvedDataset) -> None:
    """Refuse pods whose own containers or volumes bear names that only injection gives.

    A container of ours is an init container with a data volume of its own; anything else by that name would escape
    the policy that guards sidecars, or collide with one.
    """
    spec = pod.get("spec") or {}
    volumes = {str(v.get("name")): v for v in spec.get("volumes") or []}
    genuine = {
        str(c.get("name"))
        for c in spec.get("initContainers") or []
        if _OURS.fullmatch(str(c.get("name"))) and f"{c.get('name')}-data" in volumes
    }
    names = [name for name in _container_names(pod) if _reserved(name) and name not in genuine]
    names += [
        name for name in volumes if _reserved(name) and not any(name.startswith(f"{owner}-") for owner in genuine)
    ]
    if names:
        raise InvalidSpec(
            f"Dataset {dataset} cannot be mounted: the pod calls something {names[0]}, and names that begin with "
            f"{SIDECAR_PREFIX} or {MATERIALISE_PREFIX} belong to dataset clients.",
            hint="Give it another name.",
        )


def _reserved(name: str) -> bool:
    return name.startswith((SIDECAR_PREFIX, MATERIALISE_PREFIX))


def _container_names(pod: Json) -> list[str]:
    spec = pod.get("spec") or {}
    return [str(container.get("name", "")) for group in CONTAINER_LISTS for container in spec.get(group) or []]


def _same_key(have: Any, item: Json) -> bool:
    if not isinstance(have, dict):
        return False
    return all(have.get(key) == item[key] for key in _KEYS if key in item)


def _same_quantity(actual: Any, rendered: Any) -> bool:
    """`1000m` and `1` are one amount; the API server rewrites quantities."""
    try:
        return isinstance(actual, str | int | float) and parse_quantity(actual) == parse_quantity(rendered)
    except (ValueError, TypeError, AttributeError):
        return False
