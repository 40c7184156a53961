"""Other spellings become the stored one, each with a warning; nothing else changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import CRD, POD, THIN_RUNTIME_PROFILE, TRAIN_JOB
from headrace.spec.normalise import normalise


@pytest.mark.parametrize(
    ("spec", "stored", "warnings"),
    [
        ({"fileSystemType": "nfs", "fuse": {"image": "a"}}, {"fileSystemType": "nfs", "fuse": {"image": "a"}}, []),
        (
            {"fileType": "starfs"},
            {"fileSystemType": "starfs"},
            ["spec.fileType is read as spec.fileSystemType, which is how Fluid spells it."],
        ),
        (
            {"fileType": "x", "image": "a", "imageTag": "1", "imagePullPolicy": "Never", "resources": {"limits": {}}},
            {
                "fileSystemType": "x",
                "fuse": {"image": "a", "imageTag": "1", "imagePullPolicy": "Never", "resources": {"limits": {}}},
            },
            ["fileType", "image", "imageTag", "imagePullPolicy", "resources"],
        ),
        (
            {"image": "a", "fuse": {"image": "b", "args": ["c"]}},
            {"fuse": {"image": "b", "args": ["c"]}},
            ["spec.image is ignored: spec.fuse.image is set to something else."],
        ),
        (
            {"image": "a", "fuse": {"image": "a"}},
            {"fuse": {"image": "a"}},
            ["spec.image is left out: spec.fuse.image says the same."],
        ),
    ],
)
def test_profiles(spec: Json, stored: Json, warnings: list[str]) -> None:
    raw = {"metadata": {"name": "p"}, "spec": spec}
    before = copy.deepcopy(raw)
    result, told = normalise(THIN_RUNTIME_PROFILE, raw)
    assert result["spec"] == stored
    assert len(told) == len(warnings)
    assert all(part in sentence for part, sentence in zip(warnings, told, strict=True))
    assert raw == before
    assert normalise(THIN_RUNTIME_PROFILE, result) == (result, [])


@pytest.mark.parametrize(
    ("changed", "stored"),
    [
        ({"imageTag": "2", "fuse": {"image": "a", "imageTag": "1"}}, {"fuse": {"image": "a", "imageTag": "2"}}),
        ({"fileType": "x", "fileSystemType": "s"}, {"fileSystemType": "x"}),
        ({"imageTag": "2", "fuse": {"imageTag": "3"}}, {"fuse": {"imageTag": "3"}}),
        ({"resources": {}, "fuse": {"args": ["c"]}}, {"fuse": {"args": ["c"], "resources": {}}}),
    ],
)
def test_an_edited_file_that_is_applied_again_says_something_new_in_the_old_spelling(
    changed: Json, stored: Json
) -> None:
    old = {"spec": {"fileSystemType": "s", "fuse": {"image": "a", "imageTag": "1"}}}
    result, told = normalise(THIN_RUNTIME_PROFILE, {"spec": changed}, old)
    assert result["spec"] == stored
    assert len(told) == 1


def test_numbers_in_the_environment_become_text() -> None:
    spec = {"env": {"A": 5, "B": 0.5, "C": "x", "D": {"secret": "s", "key": "k"}, "E": True}}
    raw = {"spec": {**spec, "command": ["a"], "roles": {"w": {"env": {"A": 1}}}}}
    result, told = normalise(TRAIN_JOB, raw)
    assert result["spec"]["env"] == {"A": "5", "B": "0.5", "C": "x", "D": {"secret": "s", "key": "k"}, "E": True}
    assert result["spec"]["roles"]["w"]["env"] == {"A": "1"}
    assert told == []


@pytest.mark.parametrize(
    ("kind", "raw", "stored"),
    [
        (POD, {"metadata": {"creationTimestamp": None, "name": "a"}}, {"metadata": {"name": "a"}}),
        (TRAIN_JOB, {"spec": {"env": None, "mounts": [{"claim": None}]}}, {"spec": {"mounts": [{}]}}),
        (TRAIN_JOB, {"spec": None}, {}),
        (CRD, {"spec": {"default": None}}, {"spec": {"default": None}}),
    ],
)
def test_null_is_absence(kind: Kind[Any], raw: Json, stored: Json) -> None:
    assert normalise(kind, raw)[0] == stored
