"""AdmissionReview in and out."""

from __future__ import annotations

import base64
import copy
from typing import Any

import jsonpatch
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.admission import codec
from headrace.admission.differ import operations
from headrace.errors import Denied, InvalidSpec
from headrace.spec.kind import Json
from headrace.spec.kinds import POD, TRAIN_JOB


def review(**asked: Any) -> bytes:
    request = {
        "uid": "u-1",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "vision",
        "userInfo": {"username": "ann", "groups": ["system:authenticated"]},
        "object": {"metadata": {"name": "p"}, "spec": {}},
        **asked,
    }
    return msgspec.json.encode({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})


def test_a_creation_is_read_whole() -> None:
    request = codec.read(review(name="p", dryRun=True))
    assert (request.uid, request.kind, request.operation, request.namespace, request.name) == (
        "u-1",
        POD,
        "CREATE",
        "vision",
        "p",
    )
    assert (request.user.name, request.user.groups) == ("ann", ("system:authenticated",))
    assert request.object is not None
    assert request.object["metadata"] == {"name": "p", "namespace": "vision"}
    assert (request.old, request.options, request.dry_run, request.subresource) == (None, {}, True, "")


def test_a_connection_has_options_and_no_object() -> None:
    asked = {"operation": "CONNECT", "subResource": "exec", "object": {"kind": "PodExecOptions", "container": "c"}}
    request = codec.read(review(**asked))
    assert request.object is None
    assert request.options["container"] == "c"
    assert (request.kind, request.subresource) == (POD, "exec")


def test_a_deletion_has_only_the_old_object() -> None:
    request = codec.read(review(operation="DELETE", object=None, oldObject={"metadata": {"name": "p"}}))
    assert request.object is None
    assert request.old == {"metadata": {"name": "p"}}


def test_our_own_kinds_are_known() -> None:
    resource = {"group": "headrace.io", "version": "v1alpha1", "resource": "trainjobs"}
    assert codec.read(review(resource=resource)).kind is TRAIN_JOB


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no AdmissionReview"),
        (b"[]", "no AdmissionReview"),
        (b'{"request": {}}', "not answered here"),
        (b'{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{}}', "not answered here"),
        (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}', "no AdmissionReview"),
        (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}', "no AdmissionReview"),
        (review(resource={"group": "apps", "version": "v1", "resource": "deployments"}), "apps/v1/deployments"),
    ],
)
def test_what_is_none_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        codec.read(content)


def test_a_change_is_answered_with_its_patch() -> None:
    request = codec.read(review())
    assert request.object is not None
    changed = copy.deepcopy(request.object)
    changed["metadata"]["annotations"] = {"a/b": "c"}
    response = codec.allowed(request, changed)["response"]
    assert (response["uid"], response["allowed"], response["patchType"]) == ("u-1", True, "JSONPatch")
    patch = msgspec.json.decode(base64.b64decode(response["patch"]))
    assert patch == [{"op": "add", "path": "/metadata/annotations", "value": {"a/b": "c"}}]


@pytest.mark.parametrize("is_given", [True, False])
def test_no_change_is_answered_without_a_patch(is_given: bool) -> None:
    request = codec.read(review())
    response = codec.allowed(request, request.object if is_given else None)["response"]
    assert response == {"uid": "u-1", "allowed": True}


def test_warnings_are_lines_each_once_and_not_too_long() -> None:
    request = codec.read(review())
    request.warnings += ["a\n b", "a b", "x" * 5000]
    assert codec.allowed(request)["response"]["warnings"] == ["a b", "x" * 1023 + "…"]


def test_a_refusal_says_why_what_to_try_and_where() -> None:
    request = codec.read(review())
    response = codec.refused(request, InvalidSpec("No.", hint="Try.", causes=(("spec.a", "must be 1"),)))["response"]
    assert response["allowed"] is False
    assert response["status"] == {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": "No. Try.",
        "details": {"causes": [{"field": "spec.a", "message": "must be 1"}]},
    }
    assert codec.refused(request, Denied("No."))["response"]["status"]["code"] == 403


# -- patches ---------------------------------------------------------------------------------------------------------------

_SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-1, 1) | st.sampled_from(["", "a", "b"])
_KEYS = st.sampled_from(["a", "b", "c/d", "e~f", "~1", ""])
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12
)
_OBJECTS = st.dictionaries(_KEYS, _VALUES, max_size=4)


@given(_OBJECTS, _OBJECTS)
def test_a_patch_makes_the_new_object_of_the_old_one(old: Json, new: Json) -> None:
    patch = operations(old, new)
    made = jsonpatch.apply_patch(old, patch)
    assert msgspec.json.encode(made, order="sorted") == msgspec.json.encode(new, order="sorted")
    assert bool(patch) == (msgspec.json.encode(old, order="sorted") != msgspec.json.encode(new, order="sorted"))


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ([1, 2], [1, 2, 3], [{"op": "add", "path": "/l/-", "value": 3}]),
        ([1, 2], [0, 2], [{"op": "replace", "path": "/l/0", "value": 0}]),
        ([1, 2], [0, 1, 2], [{"op": "replace", "path": "/l", "value": [0, 1, 2]}]),
        ([1, 2], [1], [{"op": "replace", "path": "/l", "value": [1]}]),
        ([], [1], [{"op": "replace", "path": "/l", "value": [1]}]),
        ([1], [True], [{"op": "replace", "path": "/l/0", "value": True}]),
        ([{"a": 1, "b": 2}], [{"a": 1}], [{"op": "remove", "path": "/l/0/b"}]),
    ],
)
def test_lists_are_patched_by_entry_where_that_is_enough(old: Any, new: Any, patch: list[Json]) -> None:
    assert operations({"l": old}, {"l": new}) == patch
