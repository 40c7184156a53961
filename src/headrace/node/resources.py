"""Requests and limits of one container: the world's limits, and what the downward API shows.

The world enforces `memory_bytes` by cgroup v2 where it has one, else by watching resident memory. `data_bytes`
(RLIMIT_DATA) only stops a container that allocates faster than the watch looks, so it lies well above the limit:
thread stacks and allocator arenas count as data long before anybody touches them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from headrace.errors import InvalidSpec
from headrace.node.podspec import Container, PodSpec
from headrace.spec.kind import Json
from headrace.spec.resources import qos_class
from headrace.units import parse_quantity

_DATA_SLACK_BYTES = 2**30
_OOM_SCORE = {"Guaranteed": 0, "Burstable": 500, "BestEffort": 1000}
"""Only raised, never lowered: an ordinary user may not shield a process from the kernel's choice."""


def quantity(container: Container, which: Literal["requests", "limits"], resource: str) -> Decimal | None:
    """Return a container's request or limit, None when it has none; a missing request is the limit."""
    named: Json = container.resources.get(which) or {}
    value = named.get(resource)
    if value is None and which == "requests":
        value = (container.resources.get("limits") or {}).get(resource)
    if value is None:
        return None
    try:
        return parse_quantity(value)
    except ValueError as error:
        raise InvalidSpec(f"{container.path}.resources.{which}[{resource}]: {error}.") from error


def world_limits(container: Container) -> Json:
    """Return the `limits` of the world's `container.start`. CPU is accounted, not limited, without cgroup v2."""
    limits: Json = {"core": 0}
    memory = quantity(container, "limits", "memory")
    if memory:
        limits["memory_bytes"] = int(memory)
        limits["data_bytes"] = 2 * int(memory) + _DATA_SLACK_BYTES
    return limits


def oom_score_adj(pod: PodSpec) -> int:
    """Return how soon the kernel, short of memory, takes this pod's processes; 0 to 1000."""
    return _OOM_SCORE[qos_class(pod.raw)]


def field_value(pod: PodSpec, container: Container, reference: Json, allocatable: dict[str, str]) -> str:
    """Return the text of a `resourceFieldRef`, rounded up to its divisor; a missing limit is the node's allocatable.

    Raises:
        InvalidSpec: the reference names an unknown container or resource.
    """
    resource = str(reference.get("resource", ""))
    which, _, name = resource.partition(".")
    named = str(reference.get("containerName") or container.name)
    target = pod.by_name.get(named)
    if target is None:
        raise InvalidSpec(f"resourceFieldRef names the container {named!r}, which pod {pod} does not have.")
    if which not in {"limits", "requests"} or not name:
        raise InvalidSpec(
            f"resourceFieldRef.resource {resource!r} is unknown.", hint="Use limits.cpu, requests.memory, …."
        )
    value = quantity(target, "limits" if which == "limits" else "requests", name)
    if value is None:
        value = parse_quantity(allocatable.get(name, "0")) if which == "limits" else Decimal(0)
    divisor = parse_quantity(reference.get("divisor") or "1") or Decimal(1)
    return str(int((value / divisor).to_integral_value(rounding="ROUND_CEILING")))
