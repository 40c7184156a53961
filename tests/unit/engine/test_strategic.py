"""Strategic merge patches, case by case; the expectations are those of apimachinery's patch_test.go and its document."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from headrace.engine.pipeline.patching import merged
from headrace.engine.pipeline.refusals import BadRequest
from headrace.engine.pipeline.strategic import strategic_merge
from headrace.spec.kinds import CONFIG_MAP, NODE, POD, SERVICE


def containers(*items: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"containers": list(items)}}


A, B = {"name": "a", "image": "1"}, {"name": "b", "image": "1"}


@pytest.mark.parametrize(
    ("current", "patch", "expected"),
    [
        pytest.param({"data": {"a": "1"}}, {"data": {"b": "2"}}, {"data": {"a": "1", "b": "2"}}, id="maps merge"),
        pytest.param({"data": {"a": "1"}}, {"data": {"a": None}}, {"data": {}}, id="null removes"),
        pytest.param({"data": {"a": "1"}}, {"data": {"$patch": "replace", "b": "2"}}, {"data": {"b": "2"}}, id="replace map"),
        pytest.param({"data": {"a": "1"}}, {"data": {"$patch": "delete"}}, {"data": {}}, id="delete map"),
        pytest.param({}, {"data": {"a": None, "b": "2"}}, {"data": {"b": "2"}}, id="nulls do not stay in new maps"),
    ],
)  # fmt: skip
def test_maps(current: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]) -> None:
    assert strategic_merge(current, patch, CONFIG_MAP) == expected


@pytest.mark.parametrize(
    ("current", "patch", "expected"),
    [
        pytest.param(
            containers(A, B),
            containers({"name": "b", "image": "2"}),
            containers(A, {"name": "b", "image": "2"}),
            id="items merge by key and keep their order",
        ),
        pytest.param(
            containers(A), containers({"name": "c", "image": "1"}), containers({"name": "c", "image": "1"}, A),
            id="new items come first",
        ),
        pytest.param(containers(A, B), containers({"name": "a", "$patch": "delete"}), containers(B), id="delete item"),
        pytest.param(
            containers(A, B), containers({"$patch": "replace"}, {"name": "z", "image": "9"}),
            containers({"name": "z", "image": "9"}), id="replace list",
        ),
        pytest.param(
            containers(A, B), {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}, containers(B, A),
            id="order alone",
        ),
        pytest.param(
            containers(A, B, {"name": "server"}),
            {
                "spec": {
                    "$setElementOrder/containers": [{"name": "n"}, {"name": "b"}, {"name": "a"}],
                    "containers": [{"name": "n", "image": "1"}],
                }
            },
            containers({"name": "n", "image": "1"}, B, A, {"name": "server"}),
            id="order with a new item and one that only the server has",
        ),
        pytest.param(
            containers({"name": "a", "env": [{"name": "X", "value": "1"}], "command": ["x"]}),
            containers({"name": "a", "env": [{"name": "Y", "value": "2"}], "command": ["y", "z"]}),
            containers({"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}], "command": ["y", "z"]}),
            id="lists within items: env merges, command is replaced",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}},
            {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}},
            {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}},
            id="retained keys",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}}, {"metadata": {"finalizers": ["c", "a"]}},
            {"metadata": {"finalizers": ["c", "a", "b"]}}, id="primitives merge as a set",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b", "c"]}}, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}},
            {"metadata": {"finalizers": ["a", "c"]}}, id="delete from primitives",
        ),
        pytest.param({}, containers({"name": "a", "$patch": "merge", "image": "1"}), containers(A), id="no directive stays"),
    ],
)  # fmt: skip
def test_lists_of_pods(current: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]) -> None:
    before = copy.deepcopy(current)
    assert strategic_merge(current, patch, POD) == expected
    assert current == before


def test_lists_of_other_kinds_have_their_own_keys() -> None:
    ports = {"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 443, "name": "https"}]}}
    changed = strategic_merge(ports, {"spec": {"ports": [{"port": 443, "name": "tls"}]}}, SERVICE)
    assert changed["spec"]["ports"] == [{"port": 80, "name": "http"}, {"port": 443, "name": "tls"}]
    taints = {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}
    replaced = strategic_merge(taints, {"spec": {"taints": [{"key": "b", "effect": "NoExecute"}]}}, NODE)
    assert replaced["spec"]["taints"] == [{"key": "b", "effect": "NoExecute"}]


def test_conditions_merge_by_type() -> None:
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "True"}]}}
    patch = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    assert strategic_merge(status, patch, NODE)["status"]["conditions"] == [
        {"type": "Ready", "status": "Unknown"},
        {"type": "Old", "status": "True"},
    ]


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"$patch": "explode"}},
        {"spec": {"$retainKeys": "containers"}},
        containers({"image": "without its key"}),
    ],
)
def test_what_cannot_be_read_is_refused(patch: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        strategic_merge(containers(A), patch, POD)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "foo"}, "bar", "bar"),
    ],
)
def test_merge_patches_of_the_rfc(target: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy(target)
    assert merged(target, patch) == expected
    assert target == before
