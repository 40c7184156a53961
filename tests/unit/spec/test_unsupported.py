"""The table of what is accepted and not carried out: every row is a real field, and speaks only when it is used."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import inspect as types

from headrace.spec.defaults import apply_defaults
from headrace.spec.defaults.views import struct_type
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import ALL_KINDS, DATASET, POD, POOL, QUEUE, THIN_RUNTIME, TRAIN_JOB
from headrace.spec.validation.unsupported import UNSUPPORTED, Row, holding, unsupported


def _kind(name: str) -> Kind[Any]:
    return next(kind for kind in ALL_KINDS if kind.name == name)


def _reaches(wanted: types.Type, parts: list[str]) -> bool:
    if isinstance(wanted, types.UnionType):
        return any(_reaches(choice, parts) for choice in wanted.types)
    if not parts:
        return True
    if isinstance(wanted, types.VarTupleType):
        return _reaches(wanted.item_type, parts)
    if not isinstance(wanted, types.StructType):
        return False
    fields = {field.encode_name: field.type for field in wanted.fields}
    return parts[0] in fields and _reaches(fields[parts[0]], parts[1:])


_ROWS = [(name, row) for name, rows in UNSUPPORTED.items() for row in rows]


@pytest.mark.parametrize(("name", "row"), _ROWS, ids=lambda value: getattr(value, "path", value))
def test_rows_are_real_fields(published: Any, name: str, row: Row) -> None:
    parts = row.path.replace("[*]", "").split(".")
    assert row.instead.startswith(("is ", "are "))
    if name != "Pod":
        assert _reaches(struct_type(_kind(name).view), parts)
        return
    schema = published.of(POD)
    for part in parts:
        assert published.has(schema, part)
        schema = published.inner(schema, part)


@pytest.mark.parametrize("kind", [POD, TRAIN_JOB, POOL, DATASET, THIN_RUNTIME], ids=str)
def test_the_smallest_object_uses_nothing_of_it(kind: Kind[Any]) -> None:
    spec: Json = {"containers": [{"name": "a", "image": "b"}], "command": ["a"], "kind": "own"}
    fields = {field.encode_name for field in struct_type(kind.view).fields}
    assert "spec" in fields
    wanted = {"Pod": "containers", "TrainJob": "command", "Pool": "kind"}.get(kind.name)
    raw = apply_defaults(kind, {"metadata": {"name": "a"}, "spec": {wanted: spec[wanted]} if wanted else {}})
    assert unsupported(kind, raw) == []


@pytest.mark.parametrize(
    ("kind", "spec", "paths"),
    [
        (TRAIN_JOB, {"framework": "pytorch"}, []),
        (TRAIN_JOB, {"framework": "jax"}, ["spec.framework"]),
        (TRAIN_JOB, {"code": {"git": "https://a"}, "python": {"version": "3.12"}}, ["spec.code.git", "spec.python"]),
        (TRAIN_JOB, {"code": {"archive": "sha256:0"}}, []),
        (POOL, {"dataAccess": {"mode": "broker"}}, []),
        (
            POOL,
            {"dataAccess": {"mode": "privileged"}, "images": {"rewrite": {"a": "b"}}},
            ["spec.images.rewrite", "spec.dataAccess.mode"],
        ),
        (DATASET, {"owner": {"uid": 0}, "placement": ""}, ["spec.owner"]),
        (THIN_RUNTIME, {"replicas": 0, "worker": {}}, []),
        (
            THIN_RUNTIME,
            {"replicas": 1, "fuse": {"cleanPolicy": "OnDemand"}},
            ["spec.replicas", "spec.fuse.cleanPolicy"],
        ),
        (TRAIN_JOB, {"mounts": [{"claim": "a"}, {"source": "s3://b"}]}, ["spec.mounts[1].source"]),
        (TRAIN_JOB, {"mounts": "oops"}, []),
        (QUEUE, {"budget": {"amount": "5"}, "quota": {}}, ["spec.budget"]),
        (POD, {"topologySpreadConstraints": [{"maxSkew": 1}]}, ["spec.topologySpreadConstraints"]),
    ],
    ids=str,
)
def test_it_speaks_only_when_used(kind: Kind[Any], spec: Json, paths: list[str]) -> None:
    assert [problem.path for problem in unsupported(kind, {"spec": spec})] == paths


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"command": ["a"], "outputs": {"model": {"path": "/out"}}}, []),
        ({"mounts": [{"claim": "a"}, {"source": "s3://b"}]}, ["spec.mounts[1].source"]),
        ({"python": {"version": "3.12"}, "code": {"git": "https://x"}}, ["spec.code.git", "spec.python"]),
    ],
)
def test_a_job_that_would_do_something_else_is_held(spec: Json, paths: list[str]) -> None:
    assert [problem.path for problem in holding(TRAIN_JOB, {"spec": spec})] == paths
