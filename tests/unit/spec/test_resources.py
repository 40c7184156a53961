"""What a pod takes, by the rules of kube-scheduler (cases of component-helpers `resource/helpers_test.go` among them)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.spec.kind import Json
from headrace.spec.resources import parse_amounts, pod_limits, pod_requests, qos_class


def _container(cpu: Any = None, *, sidecar: bool = False, limit: Any = None) -> Json:
    resources = {"requests": {"cpu": cpu} if cpu else {}, "limits": {"cpu": limit} if limit else {}}
    return {"name": "c", "resources": resources} | ({"restartPolicy": "Always"} if sidecar else {})


def _pod(containers: list[Json], init: list[Json] | None = None, **spec: Any) -> Json:
    return {"spec": {"containers": containers, "initContainers": init or [], **spec}}


@pytest.mark.parametrize(
    ("pod", "cpu"),
    [
        (_pod([_container(1), _container("500m")]), "1.5"),
        (_pod([_container(1)], [_container(3), _container(2)]), "3"),
        (_pod([_container(2)], [_container(1, sidecar=True)]), "3"),
        (_pod([_container(1)], [_container(1, sidecar=True), _container(4)]), "5"),
        (_pod([_container(1)], [_container(4), _container(1, sidecar=True)]), "4"),
        (_pod([_container(2)], [_container(1, sidecar=True), _container(1, sidecar=True), _container(1)]), "4"),
        (_pod([_container(limit=2)]), "2"),
        (_pod([_container(1, limit=2)]), "1"),
        (_pod([_container(1)], overhead={"cpu": "250m"}), "1.25"),
        (_pod([_container(1)], resources={"requests": {"cpu": 3}}), "3"),
    ],
)
def test_requests(pod: Json, cpu: str) -> None:
    assert pod_requests(pod) == {"cpu": Decimal(cpu)}


def test_resources_are_kept_apart() -> None:
    pod = _pod(
        [{"resources": {"limits": {"nvidia.com/gpu": 1, "memory": "4Gi"}}}],
        [{"resources": {"requests": {"memory": "8Gi"}}}],
    )
    assert pod_requests(pod) == {"nvidia.com/gpu": Decimal(1), "memory": Decimal(8 * 2**30)}


def test_nothing_asked_is_nothing() -> None:
    assert pod_requests({}) == {}
    assert pod_requests(_pod([{"name": "a"}, {"resources": None}])) == {}


def test_limits() -> None:
    pod = _pod([_container(1, limit=2), _container(1)], [_container(limit=3)], overhead={"cpu": 1, "memory": 1})
    assert pod_limits(pod) == {"cpu": Decimal(4)}


def test_what_is_no_quantity_is_told() -> None:
    with pytest.raises(ValueError, match="'lots' is not a quantity"):
        parse_amounts({"cpu": "lots"})


def _both(**amounts: str) -> Json:
    return {"resources": {"requests": dict(amounts), "limits": dict(amounts)}}


@pytest.mark.parametrize(
    ("containers", "init", "expected"),
    [
        ([{}], [], "BestEffort"),
        ([{"resources": {"limits": {"nvidia.com/gpu": 1}}}], [], "BestEffort"),
        ([_both(cpu="1", memory="1Gi")], [], "Guaranteed"),
        ([{"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}], [], "Guaranteed"),
        ([_both(cpu="1")], [], "Burstable"),
        ([_both(cpu="1", memory="1Gi"), {}], [], "Burstable"),
        ([_both(cpu="1", memory="1Gi")], [{}], "Burstable"),
        ([_container(1, limit=2)], [], "Burstable"),
    ],
)
def test_quality_of_service(containers: list[Json], init: list[Json], expected: str) -> None:
    assert qos_class(_pod(containers, init)) == expected


_MILLIS = st.integers(min_value=0, max_value=10_000)


@given(st.lists(_MILLIS, min_size=1, max_size=4), st.lists(st.tuples(_MILLIS, st.booleans()), max_size=4))
def test_a_pod_takes_what_it_needs_at_its_greediest_moment(containers: list[int], init: list[tuple[int, bool]]) -> None:
    """Played through: init containers start in order, sidecars stay, then all containers run."""
    pod = _pod([_container(f"{c}m") for c in containers], [_container(f"{c}m", sidecar=s) for c, s in init])
    running, peak = 0, 0
    for millis, stays in init:
        peak = max(peak, running + millis)
        running += millis if stays else 0
    peak = max(peak, running + sum(containers))
    assert pod_requests(pod).get("cpu", Decimal(0)) * 1000 == peak
