"""Sets of fields: their algebra against sets of paths, and FieldsV1 as clients write it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.managedfields import fieldset
from headrace.managedfields.elements import Malformed, keyed, normalised, shown, valued
from headrace.managedfields.fieldset import FieldSet, difference, has, intersection, parsed, paths, union

Path = tuple[str, ...]
ELEMENTS = ["f:a", "f:b", 'k:{"name":"x"}', 'v:"x"', "i:0"]
PATHS = st.sets(st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=4).map(tuple), max_size=12)


def tree(members: set[Path]) -> FieldSet:
    """Build a set member by member."""
    result: FieldSet = {}
    for path in members:
        single: FieldSet = {}
        for element in reversed(path):
            single = {element: single}
        result = union(result, single)
    return result


def members(fields: FieldSet) -> set[Path]:
    return set(paths(fields))


@given(PATHS)
def test_a_set_holds_what_was_put_into_it(some: set[Path]) -> None:
    fields = tree(some)
    assert members(fields) == some
    assert len(list(paths(fields))) == len(some)
    assert all(has(fields, path) for path in some)


@given(PATHS)
def test_fieldsv1_survives_the_wire(some: set[Path]) -> None:
    fields = tree(some)
    assert parsed(json.loads(json.dumps(fields))) == fields


@given(PATHS, PATHS)
def test_union_intersection_and_difference_are_those_of_sets(left: set[Path], right: set[Path]) -> None:
    a, b = tree(left), tree(right)
    assert members(union(a, b)) == left | right
    assert members(intersection(a, b)) == left & right
    assert members(difference(a, b)) == left - right
    assert union(a, b) == tree(left | right), "the same set is the same tree"
    assert difference(a, b) == tree(left - right)
    assert intersection(a, b) == tree(left & right)


@given(PATHS, PATHS)
def test_whole_branches_go(left: set[Path], right: set[Path]) -> None:
    left_over = {path for path in left if not any(path[: len(cut)] == cut for cut in right)}
    assert fieldset.without_branches(tree(left), tree(right)) == tree(left_over)


@given(PATHS, PATHS)
def test_nothing_given_is_changed(left: set[Path], right: set[Path]) -> None:
    a, b = tree(left), tree(right)
    before = json.dumps([a, b])
    union(a, b), difference(a, b), intersection(a, b), fieldset.without_branches(a, b)
    assert json.dumps([a, b]) == before


@given(PATHS)
def test_what_does_not_change_is_the_same_object(some: set[Path]) -> None:
    fields = tree(some)
    assert union(fields, fields) is fields
    assert union(fields, {}) is fields
    assert difference(fields, {"f:elsewhere": {}}) is fields
    assert difference(fields, fields) == {}


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ({"f:a": {}}, {"f:a": {}}),
        ({"f:a": {".": {}}}, {"f:a": {}}),
        ({"f:a": None}, {"f:a": {}}),
        ({".": {}, "f:a": {}}, {"f:a": {}}),
        ({'k:{"port": 80.0, "a": "x"}': {}}, {'k:{"a":"x","port":80}': {}}),
        ({'k:{"a":"<&>"}': {}}, {'k:{"a":"\\u003c\\u0026\\u003e"}': {}}),
        ({"v: 1": {}}, {"v:1": {}}),
        ({"z:later": {}, "f:a": {"z:later": {}}}, {"f:a": {}}),
    ],
)
def test_what_clients_write_becomes_canonical(written: Any, canonical: FieldSet) -> None:
    assert parsed(written) == canonical


@pytest.mark.parametrize("written", [[], 1, {"fa": {}}, {"": {}}, {"f:a": 1}, {"i:x": {}}, {"k:[]": {}}, {"v:": {}}])
def test_what_is_no_set_of_fields_is_refused(written: Any) -> None:
    with pytest.raises(Malformed):
        parsed(written)


def test_elements_of_items() -> None:
    assert keyed({"port": 80}, ("port", "protocol"), {"protocol": "TCP"}) == 'k:{"port":80,"protocol":"TCP"}'
    assert keyed({"port": True}, ("port",), {}) != keyed({"port": 1}, ("port",), {})
    assert keyed({"name": "a", "port": 80}, ("name",), {}) == 'k:{"name":"a"}'
    assert valued("x") == 'v:"x"'
    wrong: list[Any] = [None, "x", {"other": 1}]
    for item in wrong:
        with pytest.raises(Malformed):
            keyed(item, ("name",), {})
    for item in [*wrong[:1], {}, []]:
        with pytest.raises(Malformed):
            valued(item)


def test_paths_as_people_read_them_in_the_order_of_a_real_server() -> None:
    fields = tree({("f:b",), ('k:{"name":"x","port":2}',), ("v:10",), ("v:9",), ("i:3",), ("f:a", "f:c")})
    told = [fieldset.shown_path(path) for path in paths(fields)]
    assert told == [".b", '[name="x",port=2]', "[=9]", "[=10]", "[3]", ".a.c"]
    assert shown('v:"x"') == '[="x"]'
    assert normalised("z:x") is None
