"""Profile and runtime merged: Fluid's rules, without Fluid's defects."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from headrace.data.client import Cache
from headrace.data.runtime.merge import merge_client, overridden
from headrace.errors import Denied, HeadraceError, InvalidSpec
from headrace.spec.kind import Json


def profile(annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    return {
        "metadata": {"name": "juicefs", "annotations": annotations or {}},
        "spec": {"fileSystemType": "juicefs", "fuse": {"image": "juicefs", "imageTag": "1.4"}, **spec},
    }


def runtime(**spec: Any) -> Json:
    return {"metadata": {"name": "demo"}, "spec": {"profileName": "juicefs", **spec}}


@pytest.mark.parametrize(
    ("base", "over", "image"),
    [
        ({"image": "a", "imageTag": "1"}, {}, "a:1"),
        ({"image": "a"}, {}, "a"),
        ({"image": "a:1"}, {}, "a:1"),
        ({"image": "reg:5000/a", "imageTag": "1"}, {}, "reg:5000/a:1"),
        ({"image": "a", "imageTag": "1"}, {"image": "b"}, "b"),
        ({"image": "a", "imageTag": "1"}, {"image": "b", "imageTag": "2"}, "b:2"),
        ({"image": "a", "imageTag": "1"}, {"imageTag": "2"}, "a:2"),
        ({"image": "host", "imageTag": "1"}, {}, "host"),
        ({}, {}, ""),
    ],
)
def test_image_and_tag(base: Json, over: Json, image: str) -> None:
    assert merge_client(profile(fuse=base), runtime(fuse=over)).image == image


@pytest.mark.parametrize("image", ["a:1", "a@sha256:00"])
def test_a_tag_said_twice_is_refused(image: str) -> None:
    with pytest.raises(InvalidSpec, match="tag twice"):
        merge_client(profile(fuse={"image": image, "imageTag": "2"}))


def test_what_is_replaced_appended_and_merged() -> None:
    base: Json = {
        "image": "a",
        "imagePullPolicy": "Always",
        "command": ["x"],
        "args": ["1"],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}],
        "ports": [{"containerPort": 1}],
        "options": {"ro": "", "a": "1"},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
        "livenessProbe": {"exec": {"command": ["base"]}},
        "imagePullSecrets": [{"name": "one"}],
        "lifecycle": {"preStop": {"exec": {"command": ["base"]}}},
    }
    over: Json = {
        "imagePullPolicy": "Never",
        "args": ["2"],
        "env": [{"name": "B", "value": "2"}, {"name": "C", "value": "2"}],
        "ports": [{"containerPort": 2}],
        "options": {"a": "2", "b": "2"},
        "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}},
        "imagePullSecrets": [{"name": "two"}],
    }
    one, two = profile(fuse=base, imagePullSecrets=[{"name": "zero"}]), runtime(fuse=over)
    before = copy.deepcopy((one, two))
    client = merge_client(one, two)
    assert (one, two) == before
    assert (client.image_pull_policy, client.command, client.args) == ("Never", ("x",), ("2",))
    assert [(e["name"], e["value"]) for e in client.env] == [("A", "1"), ("B", "2"), ("C", "2")]
    assert [p["containerPort"] for p in client.ports] == [1, 2]
    assert client.mount_options(read_only=False) == "a=2,b=2,ro"
    assert client.resources == {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert client.liveness_probe == {"exec": {"command": ["base"]}}
    assert client.image_pull_secrets == ("zero", "one", "two")
    assert client.pre_stop == {"exec": {"command": ["base"]}}


def test_only_mounted_volumes_come_along() -> None:
    client = merge_client(
        profile(
            volumes=[{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/x"}}, {"name": "c"}],
            fuse={"image": "i", "volumeMounts": [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}]},
        ),
        runtime(
            volumes=[{"name": "d", "emptyDir": {}}],
            fuse={"volumeMounts": [{"name": "d", "mountPath": "/a"}]},
        ),
    )
    assert [volume["name"] for volume in client.volumes] == ["d", "b"]
    assert [(mount["name"], mount["mountPath"]) for mount in client.volume_mounts] == [("d", "/a"), ("b", "/b")]


@pytest.mark.parametrize(
    ("one", "two", "error", "says"),
    [
        (
            {"fuse": {"volumeMounts": [{"name": "no", "mountPath": "/x"}]}},
            {},
            InvalidSpec,
            "ThinRuntimeProfile juicefs",
        ),
        ({}, {"fuse": {"volumeMounts": [{"name": "no", "mountPath": "/x"}]}}, InvalidSpec, "ThinRuntime demo"),
        ({}, {"volumes": [{"name": "h", "hostPath": {"path": "/etc"}}]}, Denied, "/etc"),
        ({"fuse": {"lifecycle": {"postStart": {"exec": {}}}}}, {}, InvalidSpec, "postStart"),
        ({}, {"fuse": {"lifecycle": {"postStart": {"exec": {}}}}}, InvalidSpec, "ThinRuntime demo"),
    ],
)
def test_what_is_refused(one: Json, two: Json, error: type[HeadraceError], says: str) -> None:
    with pytest.raises(error, match=says) as refusal:
        merge_client(profile(**one), runtime(**two))
    assert refusal.value.hint


def test_tiered_store_gives_cache_directories() -> None:
    levels = [
        {"mediumtype": "MEM", "path": "/dev/shm/c", "quota": "1Gi"},
        {"mediumtype": "SSD", "path": "/a, /b", "quotaList": "2Gi,3Gi"},
    ]
    assert merge_client(profile(), runtime(tieredstore={"levels": levels})).caches == (
        Cache(path="/dev/shm/c", size="1Gi", in_memory=True),
        Cache(path="/a", size="2Gi"),
        Cache(path="/b", size="3Gi"),
    )
    assert merge_client(profile()).caches == (Cache(path="/var/cache/fluid-fuse"),)


def test_the_copy_command_is_a_list_of_words() -> None:
    key = "headrace.io/materialise-command"
    assert merge_client(profile({key: '["copy", "--all"]'})).materialise == ("copy", "--all")
    for text in ("copy", "[]", '["a", 1]', '{"a": 1}'):
        with pytest.raises(InvalidSpec, match=key):
            merge_client(profile({key: text}))


def test_overridden_names_what_changes_the_program() -> None:
    changed = runtime(fuse={"image": "x", "env": [{}], "args": ["a"]}, volumes=[{"name": "v"}])
    assert overridden(changed) == ["spec.fuse.image", "spec.fuse.args", "spec.volumes"]
    assert overridden(runtime(fuse={"resources": {"limits": {}}})) == []
