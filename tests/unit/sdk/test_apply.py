"""Three-way apply by table: what the file says, what it said before, what others did meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.sdk.apply import LAST_APPLIED, annotated, merge_patch
from headrace.spec.kind import Json


def manifest(**spec: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": spec}


def live(applied: Json, **changes: Any) -> Json:
    body = annotated(applied)
    body["metadata"] |= {"uid": "u", "resourceVersion": "3"}
    body["data"] = {**body["data"], **changes}
    return body


def test_applying_the_same_file_again_changes_nothing() -> None:
    assert merge_patch(manifest(a="1"), live(manifest(a="1"))) == {}


def test_what_others_set_stays() -> None:
    assert merge_patch(manifest(a="1"), live(manifest(a="1"), theirs="x")) == {}


def test_a_changed_field_is_set_and_a_dropped_one_is_removed() -> None:
    patch = merge_patch(manifest(a="2"), live(manifest(a="1", b="1")))
    assert patch["data"] == {"a": "2", "b": None}
    assert LAST_APPLIED in patch["metadata"]["annotations"]


def test_a_field_that_drifted_is_set_back() -> None:
    assert merge_patch(manifest(a="1"), live(manifest(a="1"), a="9"))["data"] == {"a": "1"}


def test_an_object_that_was_never_applied_is_taken_over_without_removing_anything() -> None:
    found = {"metadata": {"name": "c"}, "data": {"a": "1", "theirs": "x"}}
    patch = merge_patch(manifest(a="1"), found)
    assert "data" not in patch
    assert LAST_APPLIED in patch["metadata"]["annotations"]


@pytest.mark.parametrize("broken", ["", "{", "[]", "null"])
def test_a_broken_annotation_counts_as_none(broken: str) -> None:
    found = live(manifest(a="1"))
    found["metadata"]["annotations"][LAST_APPLIED] = broken
    assert "data" not in merge_patch(manifest(a="1"), found)


def test_lists_are_replaced_whole() -> None:
    old = {"kind": "X", "metadata": {"name": "x"}, "spec": {"items": [1, 2], "keep": True}}
    new = {"kind": "X", "metadata": {"name": "x"}, "spec": {"items": [2], "keep": True}}
    assert merge_patch(new, annotated(old))["spec"] == {"items": [2]}


def test_a_secrets_string_data_is_compared_as_the_server_keeps_it() -> None:
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "value"}}
    stored = annotated(secret)
    assert stored["data"] == {"key": "dmFsdWU="}
    assert merge_patch(secret, stored) == {}
    changed = merge_patch({**secret, "stringData": {"key": "other"}}, stored)
    assert changed["data"] == {"key": "b3RoZXI="}
