"""Objects against types: what has changed, what a configuration names, merging, taking out, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.managedfields.checking import findings
from headrace.managedfields.compare import compare, everything
from headrace.managedfields.merge import merged, removed
from headrace.managedfields.naming import leaves, with_named_fields
from headrace.managedfields.reconcile import fitted
from headrace.managedfields.schemas import custom_type
from headrace.managedfields.types import DEDUCED, Type
from headrace.spec.kind import Json

STRING: Json = {"type": "string"}


def items(sort: str, of: Json | None = None, *keys: str) -> Json:
    more: Json = {"x-kubernetes-list-map-keys": list(keys)} if keys else {}
    return {"type": "array", "items": of or STRING, "x-kubernetes-list-type": sort, **more}


PORT: Json = {
    "type": "object",
    "properties": {
        "port": {"type": "integer"},
        "protocol": {"type": "string", "default": "TCP"},
        "to": {"x-kubernetes-int-or-string": True},
    },
}
SPEC: Json = {
    "type": "object",
    "properties": {
        "text": STRING,
        "count": {"type": "integer"},
        "on": {"type": "boolean"},
        "inner": {"type": "object", "properties": {"a": STRING, "b": STRING}},
        "whole": {"type": "object", "properties": {"a": STRING}, "x-kubernetes-map-type": "atomic"},
        "labels": {"type": "object", "additionalProperties": STRING},
        "list": items("atomic"),
        "plain": {"type": "array", "items": STRING},
        "set": items("set"),
        "ports": items("map", PORT, "port", "protocol"),
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "any": {"x-kubernetes-preserve-unknown-fields": True},
    },
}
TYPE = custom_type({"type": "object", "properties": {"spec": SPEC}})
TCP = 'k:{"port":80,"protocol":"TCP"}'
UDP = 'k:{"port":80,"protocol":"UDP"}'


def in_spec(value: Any) -> Json:
    return {"spec": value}


def spec_set(fields: Json) -> Json:
    return {"f:spec": fields} if fields else {}


@pytest.mark.parametrize(
    ("old", "new", "changed", "gone"),
    [
        ({"text": "a"}, {"text": "a"}, {}, {}),
        ({"text": "a"}, {"text": "b"}, {"f:text": {}}, {}),
        ({}, {"text": "a"}, {"f:text": {}}, {}),
        ({"text": "a", "count": 1}, {"count": 1}, {}, {"f:text": {}}),
        ({"count": 1}, {"count": 1, "inner": {"a": "x"}}, {"f:inner": {".": {}, "f:a": {}}}, {}),
        ({"inner": {"a": "x"}}, {"inner": {"b": "y"}}, {"f:inner": {"f:b": {}}}, {"f:inner": {"f:a": {}}}),
        ({"inner": {"a": "x"}, "on": True}, {"on": True}, {}, {"f:inner": {".": {}, "f:a": {}}}),
        ({"on": True}, {"on": True, "labels": {}}, {"f:labels": {}}, {}),
        ({"labels": {}}, {"labels": {"x": "1"}}, {"f:labels": {"f:x": {}}}, {}),
        ({"whole": {"a": "1"}}, {"whole": {"a": "2"}}, {"f:whole": {}}, {}),
        ({"list": ["a"]}, {"list": ["a", "b"]}, {"f:list": {}}, {}),
        ({"plain": ["a"]}, {"plain": ["b"]}, {"f:plain": {}}, {}),
        ({"set": ["a", "b"]}, {"set": ["b", "c"]}, {"f:set": {'v:"c"': {}}}, {"f:set": {'v:"a"': {}}}),
        ({"set": ["a", "a"]}, {"set": ["a"]}, {"f:set": {'v:"a"': {}}}, {"f:set": {'v:"a"': {}}}),
        (
            {"ports": [{"port": 80}]},
            {"ports": [{"port": 80, "protocol": "TCP"}]},
            {"f:ports": {TCP: {"f:protocol": {}}}},
            {},
        ),
        (
            {"ports": [{"port": 80}]},
            {"ports": [{"port": 80, "protocol": "UDP"}, {"port": 80}]},
            {"f:ports": {UDP: {".": {}, "f:port": {}, "f:protocol": {}}}},
            {},
        ),
        ({"any": 1}, {"any": {"x": 1}}, {"f:any": {".": {}, "f:x": {}}}, {}),
        ({"any": {"x": 1}}, {"any": 1}, {"f:any": {}}, {"f:any": {"f:x": {}}}),
        ({"free": {"a": [1]}}, {"free": {"a": [2]}}, {"f:free": {"f:a": {}}}, {}),
    ],
)
def test_what_has_changed(old: Json, new: Json, changed: Json, gone: Json) -> None:
    found = compare(in_spec(old), in_spec(new), TYPE)
    assert found.changed == spec_set(changed)
    assert found.removed == spec_set(gone)
    assert found.is_same == (old == new)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"text": "a"}, {"f:text": {}}),
        ({"inner": {"a": "x"}}, {"f:inner": {"f:a": {}}}),
        ({"inner": {}}, {"f:inner": {}}),
        ({"inner": None, "text": None}, {"f:inner": {}, "f:text": {}}),
        ({"labels": {"x": "1"}}, {"f:labels": {"f:x": {}}}),
        ({"whole": {"a": "1"}}, {"f:whole": {}}),
        ({"list": []}, {"f:list": {}}),
        ({"set": ["a"]}, {"f:set": {'v:"a"': {}}}),
        ({"set": []}, {}),
        ({"ports": [{"port": 80}]}, {"f:ports": {TCP: {".": {}, "f:port": {}}}}),
        ({"free": {"a": {"b": [1]}}}, {"f:free": {"f:a": {".": {}, "f:b": {}}}}),
    ],
)
def test_what_a_configuration_names(config: Json, named: Json) -> None:
    assert leaves(in_spec(config), TYPE) == spec_set(named)


def test_fields_that_hold_others_are_named_and_entries_of_maps_are_not() -> None:
    fields = {"f:spec": {"f:inner": {"f:a": {}}, "f:free": {"f:a": {"f:b": {}}}, "f:ports": {TCP: {"f:port": {}}}}}
    assert with_named_fields(fields, TYPE) == {
        "f:spec": {
            ".": {},
            "f:inner": {".": {}, "f:a": {}},
            "f:free": {".": {}, "f:a": {"f:b": {}}},
            "f:ports": {".": {}, TCP: {"f:port": {}}},
        }
    }


@pytest.mark.parametrize(
    ("live", "config", "result"),
    [
        ({"text": "a", "count": 1}, {"text": "b"}, {"text": "b", "count": 1}),
        ({"inner": {"a": "1"}}, {"inner": {"b": "2"}}, {"inner": {"a": "1", "b": "2"}}),
        ({"whole": {"a": "1"}}, {"whole": {}}, {"whole": {}}),
        ({"list": ["a", "b"]}, {"list": ["c"]}, {"list": ["c"]}),
        ({"set": ["a", "b"]}, {"set": ["c"]}, {"set": ["a", "b", "c"]}),
        ({"set": ["a", "b", "c"]}, {"set": ["c", "a"]}, {"set": ["b", "c", "a"]}),
        ({"set": ["x", "a", "y"]}, {"set": ["n", "a"]}, {"set": ["x", "n", "a", "y"]}),
        ({"set": ["a"]}, {"set": None}, {"set": ["a"]}),
        ({"inner": {"a": "1"}}, {"inner": None}, {"inner": {"a": "1"}}),
        ({"text": "a"}, {"text": None}, {"text": None}),
        (
            {"ports": [{"port": 80, "protocol": "TCP", "to": 1}, {"port": 81}]},
            {"ports": [{"port": 81, "to": 2}, {"port": 80, "to": "web"}]},
            {"ports": [{"port": 81, "to": 2}, {"port": 80, "protocol": "TCP", "to": "web"}]},
        ),
        ({"any": {"x": 1}}, {"any": 1}, {"any": 1}),
        ({"any": 1}, {"any": {"x": 1}}, {"any": {"x": 1}}),
    ],
)
def test_a_configuration_is_put_over_an_object(live: Json, config: Json, result: Json) -> None:
    before = repr((live, config))
    assert merged(in_spec(live), in_spec(config), TYPE) == in_spec(result)
    assert repr((live, config)) == before


@pytest.mark.parametrize(
    ("value", "fields", "left"),
    [
        ({"text": "a", "count": 1}, {"f:text": {}}, {"count": 1}),
        ({"inner": {"a": "1", "b": "2"}, "on": True}, {"f:inner": {"f:a": {}}}, {"inner": {"b": "2"}, "on": True}),
        ({"inner": {"a": "1"}, "on": True}, {"f:inner": {"f:a": {}}}, {"inner": None, "on": True}),
        ({"set": ["a", "b"]}, {"f:set": {'v:"a"': {}}}, {"set": ["b"]}),
        ({"ports": [{"port": 80}, {"port": 81}]}, {"f:ports": {TCP: {}}}, {"ports": [{"port": 81}]}),
        ({"ports": [{"port": 80, "to": 1}]}, {"f:ports": {TCP: {"f:to": {}}}}, {"ports": [{"port": 80}]}),
        ({"text": "a"}, {"f:other": {}}, {"text": "a"}),
    ],
)
def test_fields_are_taken_out(value: Json, fields: Json, left: Json) -> None:
    assert removed(in_spec(value), {"f:spec": fields}, TYPE) == in_spec(left)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"text": "a", "count": 1.5, "any": [{}], "labels": None}, ""),
        ({"txt": "a"}, ".spec.txt: field not declared in schema"),
        ({"text": 5}, ".spec.text: expected string, got &value.valueUnstructured{Value:5}"),
        ({"count": "a"}, ".spec.count: expected numeric (int or float), got string"),
        ({"count": True}, ".spec.count: expected numeric (int or float), got bool"),
        ({"on": "yes"}, ".spec.on: expected boolean, got &{yes}"),
        ({"inner": ["a"]}, ".spec.inner: expected map, got &{[a]}"),
        ({"list": {"a": "b"}}, ".spec.list: expected list, got &{map[a:b]}"),
        ({"set": ["a", "a"]}, '.spec.set: duplicate entries for key [="a"]'),
        ({"set": [None]}, ".spec.set: element 0: associative list without keys has an element that's an explicit null"),
        ({"ports": [{"port": 80}, {"port": 80}]}, '.spec.ports: duplicate entries for key [port=80,protocol="TCP"]'),
        ({"ports": [{"port": 80, "x": 1}]}, '.spec.ports[port=80,protocol="TCP"].x: field not declared in schema'),
        (
            {"text": 1, "on": 1},
            (
                "errors:\n  .spec.text: expected string, got &value.valueUnstructured{Value:1}\n"
                "  .spec.on: expected boolean, got &{1}"
            ),
        ),
    ],
)
def test_what_does_not_fit_is_said_as_a_real_server_says_it(spec: Json, sentence: str) -> None:
    assert findings(in_spec(spec), TYPE) == sentence


def test_without_a_schema_maps_are_owned_by_field_and_lists_as_a_whole() -> None:
    bare = custom_type(None)
    value = {"metadata": {"finalizers": ["a"]}, "spec": {"list": [{"name": "a"}], "map": {"x": 1}}}
    fields: Json = {
        "f:metadata": {"f:finalizers": {'v:"a"': {}}},
        "f:spec": {".": {}, "f:list": {}, "f:map": {".": {}, "f:x": {}}},
    }
    assert leaves(value, bare) == fields
    assert everything({"a": [1]}, DEDUCED) == {".": {}, "f:a": {}}


def test_sets_from_before_a_part_became_whole_are_fitted() -> None:
    fields: Json = {"f:spec": {"f:whole": {"f:a": {}}, "f:list": {'k:{"a":1}': {}}, "f:inner": {"f:a": {}}}}
    assert fitted(fields, TYPE) == {"f:spec": {"f:whole": {}, "f:list": {}, "f:inner": {"f:a": {}}}}
    settled = fitted(fields, TYPE)
    assert fitted(settled, TYPE) is settled


def test_a_type_may_hold_itself() -> None:
    tree = Type()
    tree.map = DEDUCED.map
    assert compare({"a": {"a": 1}}, {"a": {"a": 2}}, tree).changed == {"f:a": {"f:a": {}}}
