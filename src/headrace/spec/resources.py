"""What a pod takes of a node: the sum Kubernetes' scheduler, quota and our bill agree on.

Source: k8s.io/component-helpers `resource/helpers.go` (PodRequests, PodLimits) and `kubelet/qos`. Works on raw JSON,
because it runs for every pod at every decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from headrace.spec.kind import Json
from headrace.units import parse_quantity

Amounts = dict[str, Decimal]
"""Resource name to exact amount: cores, bytes, pieces."""

_POD_LEVEL = ("cpu", "memory")


def parse_amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    """Return quantities as exact amounts; raises ValueError with a sentence for what is no quantity."""
    return {name: parse_quantity(quantity) for name, quantity in (quantities or {}).items()}


def pod_requests(pod: Json) -> Amounts:
    """Return what a pod (an object with `spec`) requests of its node.

    Ordinary init containers run one after the other, so only the greediest counts; a native sidecar
    (`restartPolicy: Always`) stays, so it adds to all that come after it and to the containers. A request that is
    missing where there is a limit is the limit. Requests on the pod itself win; `overhead` comes on top.
    """
    return _pod_total(pod, _container_requests, "requests")


def pod_limits(pod: Json) -> Amounts:
    """Return the sum of a pod's limits, by the same rules. A resource without any limit is not in it."""
    return _pod_total(pod, _container_limits, "limits")


def qos_class(pod: Json) -> Literal["Guaranteed", "Burstable", "BestEffort"]:
    """Return the quality-of-service class of a pod: who is ended first when memory runs out."""
    spec = pod.get("spec") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    requests = [_only(_container_requests(container), _POD_LEVEL) for container in containers]
    limits = [_only(_container_limits(container), _POD_LEVEL) for container in containers]
    if not any(requests) and not any(limits):
        return "BestEffort"
    guaranteed = all(
        len(limit) == len(_POD_LEVEL) and limit == request for request, limit in zip(requests, limits, strict=True)
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _pod_total(pod: Json, of_container: Any, kind: str) -> Amounts:
    spec = pod.get("spec") or {}
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, of_container(container))
    sidecars: Amounts = {}
    start: Amounts = {}
    for container in spec.get("initContainers") or ():
        needs = of_container(container)
        if container.get("restartPolicy") == "Always":
            _add(total, needs)
            _add(sidecars, needs)
            _raise_to(start, sidecars)
        else:
            _add(needs, sidecars)
            _raise_to(start, needs)
    _raise_to(total, start)
    on_pod = parse_amounts((spec.get("resources") or {}).get(kind))
    total.update(_only(on_pod, (*_POD_LEVEL, *(name for name in on_pod if name.startswith("hugepages-")))))
    overhead = parse_amounts(spec.get("overhead"))
    _add(total, overhead if kind == "requests" else {name: overhead[name] for name in overhead if name in total})
    return total


def _container_requests(container: Json) -> Amounts:
    resources = container.get("resources") or {}
    return parse_amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _container_limits(container: Json) -> Amounts:
    return parse_amounts((container.get("resources") or {}).get("limits"))


def _only(amounts: Amounts, names: tuple[str, ...]) -> Amounts:
    return {name: amounts[name] for name in names if amounts.get(name)}


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Decimal(0)) + amount


def _raise_to(total: Amounts, floor: Amounts) -> None:
    for name, amount in floor.items():
        if amount > total.get(name, Decimal(0)):
            total[name] = amount
