"""Pools and Queues: amounts and prices that cannot be meant are refused by path."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import POOL, QUEUE
from headrace.spec.validation import validate

DESIGN_POOL: Json = {
    "kind": "serverless",
    "capacity": {"cpu": 64, "memory": "256Gi", "gpu/A100": 16},
    "nodes": {
        "selector": {"type": "virtual-kubelet"},
        "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
    },
    "gpus": {"A100": {"resource": "nvidia.com/gpu", "podAnnotations": {"provider/gpu": "a100"}}},
    "dataAccess": {"mode": "broker"},
    "images": {"rewrite": {"reg.corp/": "mirror.cloud/"}},
    "startTimeout": "5m",
    "price": {
        "currency": "USD",
        "startsAt": "Pull",
        "granularity": "1s",
        "minimum": "0s",
        "rates": {"cpu": "0.0000077/s", "memory": "0.00000096/GiB-s", "gpu/A100": "0.0008/s"},
    },
    "line": {"bandwidth": "1Gbit/s", "pricePerGB": "0.05", "trusted": False},
}
DESIGN_QUEUE: Json = {
    "namespaces": ["vision"],
    "cohort": "lab",
    "quota": {"guaranteed": {"gpu/A100": 8}, "preferred": {"gpu/A100": 16}},
    "burst": {"allow": True, "waitPrice": "2.00/h", "maxWait": "24h", "maxPrice": "4.00/gpu-h"},
    "budget": {"amount": "500", "period": "month", "onExhausted": "ownOnly"},
}
"""As in docs/design.md, section 2."""


def _paths(kind: Kind[Any], spec: Json, old: Json | None = None) -> list[str]:
    def whole(part: Json) -> Json:
        return apply_defaults(kind, {"metadata": {"name": "a"}, "spec": part})

    return [p.path for p in validate(kind, whole(spec), None if old is None else whole(old))]


def _price(**price: Any) -> Json:
    return {"kind": "own", "price": price}


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        (DESIGN_POOL, []),
        ({"kind": "own"}, []),
        ({"kind": "cloud"}, ["spec.kind"]),
        ({"kind": "serverless"}, ["spec.capacity"]),
        ({"kind": "own", "capacity": {"gpu/A100": "many"}}, ["spec.capacity[gpu/A100]"]),
        ({"kind": "own", "capacity": {"Gpu A": 1}}, ["spec.capacity[Gpu A]"]),
        ({"kind": "own", "capacity": {"nvidia.com/gpu": 1, "pods": 110, "gpu": 2}}, []),
        ({"kind": "own", "capacity": {"cpu": -1}}, ["spec.capacity.cpu"]),
        ({"kind": "own", "nodes": {"selector": {"a": "b c"}}}, ["spec.nodes.selector.a"]),
        ({"kind": "own", "gpus": {"A 100": {}}}, ["spec.gpus[A 100]"]),
        ({"kind": "own", "gpus": {"A100": {"resource": "gpu"}}}, ["spec.gpus.A100.resource"]),
        ({"kind": "own", "dataAccess": {"mode": "platform"}}, ["spec.dataAccess.mode"]),
        ({"kind": "own", "dataAccess": {"mode": "fuse"}}, ["spec.dataAccess.mode"]),
        ({"kind": "own", "images": {"rewrite": {"": "a"}}}, ["spec.images.rewrite"]),
        ({"kind": "own", "startTimeout": "0s"}, ["spec.startTimeout"]),
        (_price(rates={"cpu": "0.01/cpu-h", "memory": "0.01/GiB-h", "gpu/A100": "1/gpu-h", "pod": "0.1/h"}), []),
        (_price(currency="dollar"), ["spec.price.currency"]),
        (_price(granularity="0s"), ["spec.price.granularity"]),
        (_price(minimum="1 minute"), ["spec.price.minimum"]),
        (_price(startsAt="Now"), ["spec.price.startsAt"]),
        (_price(rates={"cpu": "cheap"}), ["spec.price.rates.cpu"]),
        (_price(rates={"cpu": 0.01}), ["spec.price.rates.cpu"]),
        (_price(rates={"memory": "0.01/h"}), ["spec.price.rates.memory"]),
        (_price(rates={"memory": "0.01/MB-h"}), ["spec.price.rates.memory"]),
        (_price(rates={"cpu": "0.01/GiB-h"}), ["spec.price.rates.cpu"]),
        (_price(rates={"Disk!": "1/h"}), ["spec.price.rates[Disk!]"]),
        (_price(roundUp={"cpu": "x"}), ["spec.price.roundUp.cpu"]),
        ({"kind": "own", "line": {"bandwidth": "fast"}}, ["spec.line.bandwidth"]),
        ({"kind": "own", "line": {"pricePerGB": "-1"}}, ["spec.line.pricePerGB"]),
    ],
    ids=str,
)
def test_pools(spec: Json, paths: list[str]) -> None:
    assert _paths(POOL, spec) == paths


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        (DESIGN_QUEUE, []),
        ({}, []),
        ({"namespaces": ["vision", "vision"]}, ["spec.namespaces[1]"]),
        ({"namespaces": ["Vision"]}, ["spec.namespaces[0]"]),
        ({"cohort": "A B"}, ["spec.cohort"]),
        ({"quota": {"guaranteed": {"gpu/A100": "x"}}}, ["spec.quota.guaranteed[gpu/A100]"]),
        ({"burst": {"waitPrice": "2.00"}}, ["spec.burst.waitPrice"]),
        ({"burst": {"waitPrice": "2.00/gpu-h"}}, ["spec.burst.waitPrice"]),
        ({"burst": {"maxPrice": "4.00/GiB-h"}}, ["spec.burst.maxPrice"]),
        ({"burst": {"maxWait": "later"}}, ["spec.burst.maxWait"]),
        ({"budget": {"amount": "much"}}, ["spec.budget.amount"]),
        ({"budget": {"period": "month"}}, ["spec.budget.amount"]),
        ({"budget": {"amount": "1", "period": "year"}}, ["spec.budget.period"]),
        ({"budget": {"amount": "1", "onExhausted": "beg"}}, ["spec.budget.onExhausted"]),
        ({"expectedDuration": "0s"}, ["spec.expectedDuration"]),
    ],
    ids=str,
)
def test_queues(spec: Json, paths: list[str]) -> None:
    assert _paths(QUEUE, spec) == paths


def test_what_a_pool_is_cannot_change() -> None:
    assert _paths(POOL, {**DESIGN_POOL, "kind": "elastic"}, DESIGN_POOL) == ["spec.kind"]
    assert _paths(POOL, {**DESIGN_POOL, "capacity": {"cpu": 1}}, DESIGN_POOL) == []
