"""TrainJobs: each mistake by path, and which fields may change while it is there."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Json
from headrace.spec.kinds import TRAIN_JOB
from headrace.spec.validation import refuse, validate

MOUNT: Json = {"claim": "starfs-pvc", "path": "/data"}


def _job(name: str = "digits", **spec: Any) -> Json:
    raw = {"metadata": {"name": name, "namespace": "vision"}, "spec": {"command": ["python", "train.py"], **spec}}
    return apply_defaults(TRAIN_JOB, raw)


def _paths(name: str = "digits", **spec: Any) -> list[str]:
    return [p.path for p in validate(TRAIN_JOB, _job(name, **spec))]


DESIGN: Json = {
    "framework": "pytorch",
    "code": {"archive": "sha256:" + "0" * 64},
    "workers": 2,
    "resources": {"cpu": 2, "memory": "4Gi", "gpu": "A100:1", "shm": "3Gi"},
    "env": {"EPOCHS": "5", "TOKEN": {"secret": "hf", "key": "token"}},
    "mounts": [
        {"claim": "starfs-pvc", "path": "/data", "readOnly": True},
        {"claim": "outputs", "path": "/out"},
        {"source": "s3://bucket/train", "secret": "s3", "path": "/extra"},
    ],
    "outputs": {"model": {"path": "/out/model"}},
    "image": "registry.example/train:1",
    "queue": "research",
    "priority": "preferred",
    "pools": ["own", "cloud"],
    "expectedDuration": "2h",
    "retry": {"limit": 3, "on": ["NodeLost", "Preempted"]},
    "checkpoint": {"signal": "SIGTERM", "graceSeconds": 60},
    "maxDuration": "12h",
}
"""The job of docs/design.md, section 2, as it is stored."""


@pytest.mark.parametrize(
    "spec",
    [
        {},
        DESIGN,
        {"roles": {"chief": {}, "worker": {"replicas": 4, "resources": {"cpu": "500m"}}, "ps": {"env": {"A": "1"}}}},
        {"resources": {"cpu": 0.5, "gpu": 2}},
        {"code": {"git": "https://example.org/a.git", "revision": "main"}},
        {"python": {"version": "3.12", "requirements": "requirements.txt"}},
        {"mounts": [{**MOUNT, "path": "/workspace"}]},
    ],
    ids=str,
)
def test_good_jobs(spec: Json) -> None:
    assert _paths(**spec) == []


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"command": []}, ["spec.command"]),
        ({"workers": 0}, ["spec.workers"]),
        ({"workers": 2, "roles": {"ps": {}}}, ["spec.workers"]),
        ({"roles": {"PS": {}}}, ["spec.roles.PS"]),
        ({"roles": {"ps": {"replicas": 0}}}, ["spec.roles.ps.replicas"]),
        ({"roles": {"worker": {"resources": {"gpu": "A100:x"}}}}, ["spec.roles.worker.resources.gpu"]),
        ({"roles": {"worker": {"env": {"1A": "x"}}}}, ["spec.roles.worker.env.1A"]),
        ({"resources": {"cpu": "lots"}}, ["spec.resources.cpu"]),
        ({"resources": {"cpu": 0}}, ["spec.resources.cpu"]),
        ({"resources": {"memory": 4}}, ["spec.resources.memory"]),
        ({"resources": {"memory": "1Gi", "shm": "2Gi"}}, ["spec.resources.shm"]),
        ({"env": {"A B": "x"}}, ["spec.env[A B]"]),
        ({"env": {"A": {"secret": "S", "key": ""}}}, ["spec.env.A.secret", "spec.env.A.key"]),
        ({"code": {}}, ["spec.code"]),
        ({"code": {"directory": "."}}, ["spec.code.directory"]),
        ({"code": {"git": "a", "archive": "sha256:" + "0" * 64}}, ["spec.code"]),
        ({"code": {"archive": "sha256:xyz"}}, ["spec.code.archive"]),
        ({"code": {"archive": "sha256:" + "0" * 64, "revision": "main"}}, ["spec.code.revision"]),
        ({"python": {"version": "3"}}, ["spec.python.version"]),
        ({"python": {}, "image": "a"}, ["spec.python"]),
        ({"mounts": [{"path": "/data"}]}, ["spec.mounts[0]"]),
        ({"mounts": [{**MOUNT, "source": "s3://b"}]}, ["spec.mounts[0]"]),
        ({"mounts": [{**MOUNT, "path": "data"}]}, ["spec.mounts[0].path"]),
        ({"mounts": [{**MOUNT, "path": "/"}]}, ["spec.mounts[0].path"]),
        ({"mounts": [{**MOUNT, "path": "/proc/1"}]}, ["spec.mounts[0].path"]),
        ({"mounts": [{**MOUNT, "path": "/etc/fluid/"}]}, ["spec.mounts[0].path"]),
        (
            {"mounts": [{**MOUNT, "path": "/workspace/x"}], "code": {"git": "a"}},
            ["spec.mounts[0].path"],
        ),
        ({"mounts": [MOUNT, {**MOUNT, "path": "/data/"}]}, ["spec.mounts[1].path"]),
        ({"mounts": [{**MOUNT, "subPath": "../x"}]}, ["spec.mounts[0].subPath"]),
        ({"mounts": [{**MOUNT, "claim": "A"}]}, ["spec.mounts[0].claim"]),
        ({"mounts": [{**MOUNT, "secret": "s"}]}, ["spec.mounts[0].secret"]),
        ({"mounts": [{"source": "bucket", "path": "/a"}]}, ["spec.mounts[0].source"]),
        ({"outputs": {"model": {"path": "/out"}}}, ["spec.outputs.model.path"]),
        (
            {"outputs": {"model": {"path": "/data/m"}}, "mounts": [{**MOUNT, "readOnly": True}]},
            ["spec.outputs.model.path"],
        ),
        ({"outputs": {"model": {"path": "/database"}}, "mounts": [MOUNT]}, ["spec.outputs.model.path"]),
        ({"outputs": {"Model": {"path": "/data"}}, "mounts": [MOUNT]}, ["spec.outputs.Model"]),
        ({"expectedDuration": "soon"}, ["spec.expectedDuration"]),
        ({"maxDuration": "0s"}, ["spec.maxDuration"]),
        ({"retry": {"limit": -1}}, ["spec.retry.limit"]),
        ({"retry": {"on": ["NodeLost", "NodeLost"]}}, ["spec.retry.on[1]"]),
        ({"checkpoint": {"graceSeconds": -1}}, ["spec.checkpoint.graceSeconds"]),
        ({"queue": "My Queue"}, ["spec.queue"]),
        ({"pools": ["own", "own"]}, ["spec.pools[1]"]),
        ({"pools": ["Own"]}, ["spec.pools[0]"]),
        ({"priority": "high"}, ["spec.priority"]),
    ],
    ids=str,
)
def test_bad_jobs(spec: Json, paths: list[str]) -> None:
    assert _paths(**spec) == paths


@pytest.mark.parametrize(
    ("length", "spec", "last_worker"),
    [
        (50, {}, "-999-worker-0"),
        (49, {"workers": 11}, "-999-worker-10"),
        (48, {"workers": 101}, "-999-worker-100"),
        (39, {"roles": {"parameter-server": {"replicas": 11}, "a": {}}}, "-999-parameter-server-10"),
    ],
)
def test_names_of_workers_are_host_names(length: int, spec: Json, last_worker: str) -> None:
    assert length + len(last_worker) == 63
    assert _paths("a" * length, **spec) == []
    assert _paths("a" * (length + 1), **spec) == ["metadata.name"]


def test_a_job_has_no_dots_in_its_name() -> None:
    assert _paths("a.b") == ["metadata.name"]


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"suspend": True}, []),
        ({"queue": "other"}, []),
        ({"priority": "guaranteed"}, []),
        ({"pools": ["own"]}, []),
        ({"maxDuration": "1h", "expectedDuration": "30m", "retry": {"limit": 0}}, []),
        ({"command": ["other"]}, ["spec.command"]),
        ({"workers": 3}, ["spec.workers"]),
        ({"resources": {"cpu": 3}}, ["spec.resources"]),
        ({"env": {"A": "1"}, "image": "x"}, ["spec.env", "spec.image"]),
    ],
)
def test_updates(change: Json, paths: list[str]) -> None:
    assert [p.path for p in validate(TRAIN_JOB, _job(**change), _job())] == paths


def test_the_error_names_everything() -> None:
    raw = _job(workers=0, pools=["a", "a"])
    error = refuse(TRAIN_JOB, raw, validate(TRAIN_JOB, raw))
    assert str(error).startswith(
        "TrainJob digits is invalid: spec.workers: is 0; it must be 1 to 10000; spec.pools[1]: "
    )
    assert [path for path, _ in error.causes] == ["spec.workers", "spec.pools[1]"]
