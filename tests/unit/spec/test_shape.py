"""All mistakes of form at once, each with its path and, where one is near, the name that was meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import ALL_KINDS, DATASET, POOL, TRAIN_JOB
from headrace.spec.validation import normalise, unsupported, validate


def _found(kind: Kind[Any], **spec: Any) -> dict[str, str]:
    raw = {"metadata": {"name": "a"}, "spec": spec}
    return {problem.path: problem.message for problem in validate(kind, raw)}


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        ({"frameork": "none"}, "spec.frameork", "did you mean 'framework'?"),
        ({"maxduration": "1h"}, "spec.maxduration", "did you mean 'maxDuration'?"),
        ({"zzz": 1}, "spec.zzz", "there are: checkpoint, code, command"),
        ({"roles": {"ps": {"resources": {"gpus": 1}}}}, "spec.roles.ps.resources.gpus", "did you mean 'gpu'?"),
        ({"mounts": [{"path": "/a", "claims": "b"}]}, "spec.mounts[0].claims", "did you mean 'claim'?"),
        ({"workers": "2"}, "spec.workers", "must be a number, not '2'"),
        ({"workers": True}, "spec.workers", "must be a number, not True"),
        ({"workers": 1.5}, "spec.workers", "must be a number, not 1.5"),
        ({"suspend": "yes"}, "spec.suspend", "must be true or false, not 'yes'"),
        (
            {"command": "python train.py"},
            "spec.command",
            "must be a list, not 'python train.py'; write it as [python, train.py]",
        ),
        ({"command": ["a", 5]}, "spec.command[1]", "must be a text, not 5"),
        ({"retry": []}, "spec.retry", "must be an object, not a list"),
        ({"framework": "torch"}, "spec.framework", "did you mean 'pytorch'?"),
        ({"framework": ["pytorch"]}, "spec.framework", "must be one of"),
        ({"env": {"A": True}}, "spec.env.A", "put it in quotes"),
        ({"env": {"A": []}}, "spec.env.A", "must be a text or a number or {secret, key}, not a list"),
        ({"env": {"A": {"secrt": "s"}}}, "spec.env.A.secrt", "did you mean 'secret'?"),
        ({"env": {"A": {"secret": "s"}}}, "spec.env.A.key", "is required"),
        ({"env": "A=1"}, "spec.env", "must be an object, not 'A=1'"),
        ({"mounts": [{"claim": "a"}]}, "spec.mounts[0].path", "is required"),
        ({"resources": {"cpu": [1]}}, "spec.resources.cpu", "must be a text or a number, not a list"),
    ],
)
def test_jobs(spec: Json, path: str, words: str) -> None:
    assert words in _found(TRAIN_JOB, **{"command": ["a"], **spec})[path]


def test_all_mistakes_are_found_at_once() -> None:
    found = _found(TRAIN_JOB, comand=["a"], workers="2", retry={"limitt": 3})
    assert set(found) == {"spec.comand", "spec.command", "spec.workers", "spec.retry.limitt"}


def test_required_fields() -> None:
    assert _found(TRAIN_JOB)["spec.command"] == "is required"
    assert _found(POOL)["spec.kind"] == "is required"
    assert [p.path for p in validate(TRAIN_JOB, {"metadata": {"name": "a"}})] == ["spec"]


def test_fields_beside_spec() -> None:
    raw = {"metadata": {"name": "a", "managedFields": []}, "spec": {"command": ["a"]}, "sepc": {}, "apiVersion": "x"}
    assert [p.path for p in validate(TRAIN_JOB, raw)] == ["sepc"]


def test_fluids_unknown_fields_pass_but_are_told() -> None:
    raw = {"metadata": {"name": "a"}, "spec": {"mounts": [{"mountPoint": "s3://bucket", "readonly": True}], "new": 1}}
    assert validate(DATASET, raw) == []
    assert {p.path: p.message.partition(";")[2] for p in unsupported(DATASET, raw)} == {
        "spec.mounts[0].readonly": " did you mean 'readOnly'?",
        "spec.new": " there are: accessModes, dataRestoreLocation, mounts, nodeAffinity, owner, placement, runtimes, "
        "sharedEncryptOptions, sharedOptions, tolerations",
    }


_WORDS = """
metadata name spec status command workers roles ps resources cpu gpu memory env mounts path claim code git archive fuse
image volumes price rates capacity containers initContainers ports labels a
"""
_KEYS = st.sampled_from(_WORDS.split())
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from(ALL_KINDS), st.dictionaries(_KEYS, _JSON, max_size=4))
def test_nothing_a_user_sends_makes_a_check_fall_over(kind: Kind[Any], raw: Json) -> None:
    stored, _ = normalise(kind, raw)
    for problem in (*validate(kind, apply_defaults(kind, stored)), *unsupported(kind, stored)):
        assert problem.message
