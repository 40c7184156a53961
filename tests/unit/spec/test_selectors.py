"""Selectors, affinity and tolerations answer as Kubernetes does."""

from __future__ import annotations

import msgspec
import pytest

from headrace.errors import InvalidSpec
from headrace.spec.core.meta import LabelSelector
from headrace.spec.core.node import Node
from headrace.spec.core.pod import PodSpec
from headrace.spec.core.scheduling import Taint, Toleration
from headrace.spec.kind import Json
from headrace.spec.selectors import (
    Requirement,
    field_value,
    matches_labels,
    matches_selector,
    parse_fields,
    parse_selector,
    selects,
    selects_fields,
    tolerates,
    untolerated,
    wants_node,
)

LABELS = {"app": "web", "tier": "front", "zone": "a", "gpus": "4", "empty": "", "example.org/x": "1"}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        (" app = web , tier = front ", True),
        ("app=db", False),
        ("app!=db", True),
        ("absent!=db", True),
        ("absent=", False),
        ("empty=", True),
        ("app", True),
        ("absent", False),
        ("!absent", True),
        ("!app", False),
        ("zone in (a, b)", True),
        ("zone in (b)", False),
        ("zone notin (b,c)", True),
        ("absent notin (b)", True),
        ("absent in (b)", False),
        ("gpus>3", True),
        ("gpus>4", False),
        ("gpus<5", True),
        ("app>3", False),
        ("example.org/x=1,app,!absent,zone in (a),tier!=back", True),
    ],
)
def test_strings(text: str, selected: bool) -> None:
    assert selects(parse_selector(text), LABELS) is selected


@pytest.mark.parametrize(
    "text", [",", "app=web,", "app web", "app in web", "app in (a", "=web", "app=a=b", "a,,b", "!"]
)
def test_strings_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidSpec, match="cannot be read at"):
        parse_selector(text)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "back"}}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}, True),
        ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "absent", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "Near"}]}, False),
    ],
)
def test_label_selectors(selector: Json | None, selected: bool) -> None:
    view = None if selector is None else msgspec.convert(selector, LabelSelector)
    assert matches_selector(view, LABELS) is selected


def test_equal_labels() -> None:
    assert matches_labels({}, LABELS)
    assert matches_labels({"app": "web"}, LABELS)
    assert not matches_labels({"absent": ""}, LABELS)


POD: Json = {
    "metadata": {"name": "web"},
    "spec": {"nodeName": "own", "hostNetwork": True},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("metadata.name=web", True),
        ("metadata.name=web,status.phase!=Failed", True),
        ("spec.nodeName!=own", False),
        ("spec.absent=", True),
        ("spec.hostNetwork=true", True),
    ],
)
def test_field_selectors(text: str, selected: bool) -> None:
    assert selects_fields(parse_fields(text), POD) is selected


@pytest.mark.parametrize("text", ["metadata.name in (a,b)", "metadata.name", "!spec.nodeName"])
def test_field_selectors_know_only_equality(text: str) -> None:
    with pytest.raises(InvalidSpec, match="field selector"):
        parse_fields(text)


def test_field_values_are_text() -> None:
    assert field_value({"a": {"b": 3}}, "a.b") == "3"
    assert field_value({"a": "text"}, "a.b") == ""


NODE = msgspec.convert({"metadata": {"name": "own", "labels": {"pool": "own", "gpus": "4"}}}, Node)


def _required(*terms: Json) -> Json:
    selector = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}


def _expression(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, True),
        ({"nodeSelector": {"pool": "own"}}, True),
        ({"nodeSelector": {"pool": "cloud"}}, False),
        (_required(_expression("pool", "In", "own", "cloud")), True),
        (_required(_expression("pool", "NotIn", "own")), False),
        (_required(_expression("gpus", "Gt", "3")), True),
        (_required(_expression("gpus", "Gt", "4")), False),
        (_required(_expression("pool", "In", "cloud"), _expression("gpus", "Exists")), True),
        (_required({}), False),
        (_required(), False),
        (_required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["own"]}]}), True),
        ({"nodeSelector": {"pool": "own"}} | _required(_expression("gpus", "DoesNotExist")), False),
    ],
)
def test_node_affinity(spec: Json, wanted: bool) -> None:
    assert wants_node(msgspec.convert(spec, PodSpec), NODE) is wanted


TAINT = Taint(key="provider", value="cloud", effect="NoSchedule")


@pytest.mark.parametrize(
    ("toleration", "covered"),
    [
        (Toleration(operator="Exists"), True),
        (Toleration(), False),
        (Toleration(key="provider", operator="Exists"), True),
        (Toleration(key="provider", value="cloud"), True),
        (Toleration(key="provider", value="cloud", operator=""), True),
        (Toleration(key="provider", value="other"), False),
        (Toleration(key="other", operator="Exists"), False),
        (Toleration(key="provider", operator="Exists", effect="NoExecute"), False),
        (Toleration(key="provider", operator="Exists", effect="NoSchedule"), True),
    ],
)
def test_tolerations(toleration: Toleration, covered: bool) -> None:
    assert tolerates(toleration, TAINT) is covered
    assert (untolerated([TAINT], [toleration]) is None) is covered


def test_a_mere_preference_keeps_nobody_away() -> None:
    soft = Taint(key="a", effect="PreferNoSchedule")
    assert untolerated([soft], []) is None
    assert untolerated([soft, TAINT], []) == TAINT


def test_requirements_without_meaning_match_nothing() -> None:
    assert not Requirement("app", "Near", ("web",)).matches(LABELS)
    assert not Requirement("gpus", "Gt", ()).matches(LABELS)
