"""Kinds and documents: URL paths, reading past nulls, and errors that name the field."""

from __future__ import annotations

import pytest

from headrace.errors import InvalidSpec
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import DATASET, NODE, POD, TRAIN_JOB


def test_paths() -> None:
    assert POD.path() == "/api/v1/pods"
    assert POD.path("vision", "web", "log") == "/api/v1/namespaces/vision/pods/web/log"
    assert DATASET.path("vision") == "/apis/data.fluid.io/v1alpha1/namespaces/vision/datasets"
    assert NODE.path("ignored", "own") == "/api/v1/nodes/own"


def test_words() -> None:
    assert (POD.api_version, DATASET.api_version) == ("v1", "data.fluid.io/v1alpha1")
    assert (POD.resource, DATASET.resource) == ("pods", "datasets.data.fluid.io")
    assert (str(Ref("vision", "a")), str(Ref("", "a"))) == ("vision/a", "a")
    assert POD.has_status


def test_nulls_are_absent() -> None:
    pod = Doc(
        POD, {"metadata": {"name": "a", "creationTimestamp": None}, "spec": {"containers": None, "nodeName": "n"}}
    )
    assert (pod.view.metadata.creation_timestamp, pod.view.spec.containers, pod.view.spec.node_name) == ("", (), "n")
    assert pod.raw["metadata"]["creationTimestamp"] is None


def test_a_wrong_type_names_object_and_field() -> None:
    job = Doc(TRAIN_JOB, {"metadata": {"name": "a", "namespace": "vision"}, "spec": {"command": "python"}})
    with pytest.raises(InvalidSpec, match=r"TrainJob vision/a cannot be read: .*\$\.spec\.command"):
        _ = job.view


def test_owner_reference() -> None:
    owner = Doc(DATASET, {"metadata": {"name": "d", "uid": "1"}}).owner_reference(controller=False)
    assert owner == {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "Dataset",
        "name": "d",
        "uid": "1",
        "controller": False,
        "blockOwnerDeletion": True,
    }
