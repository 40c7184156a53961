"""Fluid's kinds: what Fluid accepts and then fails over is refused here, with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import (
    DATA_LOAD,
    DATA_PROCESS,
    DATASET,
    REFUSED_FLUID_KINDS,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
)
from headrace.spec.validation import validate

SECRET_KEY: Json = {"secretKeyRef": {"name": "s", "key": "k"}}


def _paths(kind: Kind[Any], spec: Json, old: Json | None = None) -> list[str]:
    def whole(part: Json) -> Json:
        return apply_defaults(kind, {"metadata": {"name": "a", **_namespace(kind)}, "spec": part})

    return [p.path for p in validate(kind, whole(spec), None if old is None else whole(old))]


def _namespace(kind: Kind[Any]) -> Json:
    return {"namespace": "vision"} if kind.namespaced else {}


def _mounts(*mounts: Json) -> Json:
    return {"mounts": [{"mountPoint": "s3://bucket", **mount} for mount in mounts]}


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({}, []),
        (_mounts({}), []),
        (_mounts({"mountPoint": "juicefs://volume"}), []),
        (_mounts({"mountPoint": "192.168.0.1:/nfs"}), []),
        (_mounts({"mountPoint": "local:///mnt"}), []),
        (_mounts({"mountPoint": "bucket"}), ["spec.mounts[0].mountPoint"]),
        (_mounts({"mountPoint": "pvc://starfs-pvc"}), []),
        (_mounts({"mountPoint": "pvc://starfs-pvc/sub"}), ["spec.mounts[0].mountPoint"]),
        (_mounts({"mountPoint": "pvc://"}), ["spec.mounts[0].mountPoint"]),
        (_mounts({"mountPoint": "pvc://A"}), ["spec.mounts[0].mountPoint"]),
        (_mounts({}, {"mountPoint": "pvc://a"}), ["spec.mounts[1].mountPoint"]),
        (_mounts({"mountPoint": "dataset://vision/other/sub"}), []),
        (_mounts({"mountPoint": "dataset://other"}), ["spec.mounts[0].mountPoint"]),
        (_mounts({"mountPoint": "dataset://vision/a/../../b"}), ["spec.mounts[0].mountPoint"]),
        (_mounts({"mountPoint": "dataset://vision/a"}, {}), ["spec.mounts[0].mountPoint"]),
        (_mounts({"name": "a"}, {"name": "a", "path": "/b"}), ["spec.mounts[1].name"]),
        (_mounts({"name": "a", "path": "/x"}, {"name": "b", "path": "/x"}), ["spec.mounts[1].path"]),
        (_mounts({"name": "a/b"}), ["spec.mounts[0].name"]),
        (_mounts({"path": "x"}), ["spec.mounts[0].path"]),
        (_mounts({"encryptOptions": [{"name": "key", "valueFrom": SECRET_KEY}]}), []),
        (_mounts({"encryptOptions": [{"name": "key"}]}), ["spec.mounts[0].encryptOptions[0].valueFrom.secretKeyRef"]),
        (
            _mounts({"encryptOptions": [{"name": "key", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}),
            ["spec.mounts[0].encryptOptions[0].valueFrom.secretKeyRef.key"],
        ),
        (
            _mounts({"options": {"key": "plain"}, "encryptOptions": [{"name": "key", "valueFrom": SECRET_KEY}]}),
            ["spec.mounts[0].encryptOptions[0].name"],
        ),
        ({"sharedEncryptOptions": [{"name": "k", "valueFrom": SECRET_KEY}] * 2}, ["spec.sharedEncryptOptions[1].name"]),
        ({"accessModes": ["RWX"]}, ["spec.accessModes[0]"]),
        ({"mounts": [{"name": "a"}]}, ["spec.mounts[0].mountPoint"]),
        ({"placement": "Anywhere"}, ["spec.placement"]),
    ],
    ids=str,
)
def test_datasets(spec: Json, paths: list[str]) -> None:
    assert _paths(DATASET, spec) == paths


def test_names_become_host_names() -> None:
    assert [p.path for p in validate(DATASET, {"metadata": {"name": "0.a"}, "spec": {}})] == ["metadata.name"]


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"profileName": "nfs", "fuse": {"options": {"ro": ""}, "env": [{"name": "A", "value": "1"}]}}, []),
        ({"profileName": "A B"}, ["spec.profileName"]),
        ({"fuse": {"lifecycle": {"preStop": {"exec": {"command": ["umount"]}}}}}, []),
        ({"fuse": {"lifecycle": {"postStart": {"exec": {"command": ["a"]}}}}}, ["spec.fuse.lifecycle.postStart"]),
        ({"fuse": {"cleanPolicy": "Never"}}, ["spec.fuse.cleanPolicy"]),
        ({"fuse": {"imagePullPolicy": "never"}}, ["spec.fuse.imagePullPolicy"]),
        ({"fuse": {"image": "reg:5000/a", "imageTag": "1"}}, []),
        ({"fuse": {"image": "a:1", "imageTag": "2"}}, ["spec.fuse.imageTag"]),
        ({"fuse": {"env": [{"name": "1"}]}}, ["spec.fuse.env[0].name"]),
        ({"fuse": {"resources": {"limits": {"memory": "much"}}}}, ["spec.fuse.resources.limits.memory"]),
        ({"fuse": {"networkMode": "Host"}}, ["spec.fuse.networkMode"]),
        ({"worker": {"replicas": -1}, "replicas": -1}, ["spec.worker.replicas", "spec.replicas"]),
        ({"tieredstore": {"levels": [{"mediumtype": "MEM", "quota": "x"}]}}, ["spec.tieredstore.levels[0].quota"]),
        ({"tieredstore": {"levels": [{}]}}, ["spec.tieredstore.levels[0].mediumtype"]),
        ({"volumes": [{"name": "a", "emptyDir": {}}] * 2}, ["spec.volumes[1].name"]),
        ({"fuse": {"args": "a b"}}, ["spec.fuse.args"]),
    ],
    ids=str,
)
def test_runtimes(spec: Json, paths: list[str]) -> None:
    assert _paths(THIN_RUNTIME, spec) == paths


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"fileSystemType": "juicefs"}, []),
        ({"fileSystemType": "fuse.sshfs"}, []),
        ({}, ["spec.fileSystemType"]),
        ({"fileSystemType": "my fs"}, ["spec.fileSystemType"]),
        ({"fileSystemType": "x", "nodePublishSecretPolicy": "Copy"}, ["spec.nodePublishSecretPolicy"]),
        (
            {"fileSystemType": "x", "fuse": {"volumeMounts": [{"name": "v", "mountPath": "c"}]}},
            ["spec.fuse.volumeMounts[0].mountPath", "spec.fuse.volumeMounts[0].name"],
        ),
        ({"fileSystemType": "x", "restrict": {"namespaces": ["a", "B"]}}, ["spec.restrict.namespaces[1]"]),
    ],
    ids=str,
)
def test_profiles(spec: Json, paths: list[str]) -> None:
    assert _paths(THIN_RUNTIME_PROFILE, spec) == paths


LOAD: Json = {"dataset": {"name": "a"}}


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        (LOAD, []),
        ({**LOAD, "target": [{"path": "/a"}, {"path": "/b", "replicas": 2}]}, []),
        ({}, ["spec.dataset.name"]),
        ({"dataset": {"name": "a", "namespace": "other"}}, ["spec.dataset.namespace"]),
        ({**LOAD, "target": [{"path": "a"}]}, ["spec.target[0].path"]),
        ({**LOAD, "target": [{"path": "/a"}] * 2}, ["spec.target[1].path"]),
        ({**LOAD, "policy": "Cron", "schedule": "0 3 * * *"}, []),
        ({**LOAD, "policy": "Cron", "schedule": "@daily"}, []),
        ({**LOAD, "policy": "Cron"}, ["spec.schedule"]),
        ({**LOAD, "policy": "Cron", "schedule": "tomorrow"}, ["spec.schedule"]),
        ({**LOAD, "schedule": "0 3 * * *"}, ["spec.schedule"]),
        ({**LOAD, "policy": "Always"}, ["spec.policy"]),
        ({**LOAD, "policy": "OnEvent", "ttlSecondsAfterFinished": 5}, ["spec.ttlSecondsAfterFinished"]),
        ({**LOAD, "ttlSecondsAfterFinished": -1}, ["spec.ttlSecondsAfterFinished"]),
        ({**LOAD, "runAfter": {"kind": "Job", "name": "x"}}, ["spec.runAfter.kind"]),
    ],
    ids=str,
)
def test_data_loads(spec: Json, paths: list[str]) -> None:
    assert _paths(DATA_LOAD, spec) == paths


TARGET: Json = {"name": "a", "mountPath": "/data"}
SCRIPT: Json = {"script": {"image": "busybox", "source": "ls"}}


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"dataset": TARGET, "processor": SCRIPT}, []),
        ({"dataset": TARGET, "processor": {"job": {"podSpec": {"containers": [{"name": "a", "image": "b"}]}}}}, []),
        ({"dataset": TARGET, "processor": {}}, ["spec.processor"]),
        ({"dataset": TARGET, "processor": {**SCRIPT, "job": {}}}, ["spec.processor", "spec.processor.job.podSpec"]),
        ({"dataset": TARGET, "processor": {"job": {"podSpec": {}}}}, ["spec.processor.job.podSpec.containers"]),
        ({"dataset": {"name": "a"}, "processor": SCRIPT}, ["spec.dataset.mountPath"]),
        ({"dataset": {**TARGET, "subPath": "/a"}, "processor": SCRIPT}, ["spec.dataset.subPath"]),
        (
            {"dataset": TARGET, "processor": {"script": {}}},
            ["spec.processor.script.source", "spec.processor.script.image"],
        ),
        (
            {
                "dataset": TARGET,
                "processor": {
                    "script": {
                        **SCRIPT["script"],
                        "volumes": [{"name": "v", "emptyDir": {}}],
                        "volumeMounts": [{"name": "v", "mountPath": "/data"}],
                    }
                },
            },
            ["spec.processor.script.volumeMounts[0].mountPath"],
        ),
    ],
    ids=str,
)
def test_data_processes(spec: Json, paths: list[str]) -> None:
    assert _paths(DATA_PROCESS, spec) == paths


def test_what_is_loaded_cannot_change() -> None:
    assert _paths(DATA_LOAD, {"dataset": {"name": "b"}}, LOAD) == ["spec.dataset"]
    assert _paths(DATASET, _mounts({"name": "b"}), _mounts({})) == []


@pytest.mark.parametrize("kind", REFUSED_FLUID_KINDS, ids=str)
def test_kinds_that_are_not_run(kind: Kind[Any]) -> None:
    (problem,) = validate(kind, {"metadata": {"name": "a"}, "spec": {"anything": 1}})
    assert problem.message.startswith(f"{kind.name} is not run by Headrace; use ")


def test_the_sentence_of_a_refused_runtime() -> None:
    (problem,) = validate(REFUSED_FLUID_KINDS[0], {"metadata": {"name": "a"}})
    assert problem.message == "AlluxioRuntime is not run by Headrace; use ThinRuntime with a ThinRuntimeProfile"
