"""Mount orders: the same client as in a sidecar, for a node's driver."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.data.client import ClientTools
from headrace.data.runtime.assemble import Sources
from headrace.data.runtime.order import order_for_dataset, order_for_volume
from headrace.errors import Denied, HeadraceError, InvalidSpec, Unsupported
from headrace.spec.kind import Json

TOOLS = ClientTools(path="/usr/bin")


def profile(**fuse: Any) -> Json:
    spec = {"fileSystemType": "juicefs", "fuse": {"image": "host", "command": ["mount"], **fuse}}
    return {"metadata": {"name": "juicefs"}, "spec": spec}


def test_a_volume_becomes_an_order() -> None:
    order = order_for_volume(
        "pvc-digits",
        {"profile": "juicefs", "mountPoint": "juicefs://digits", "option.cache-size": "10"},
        profile(args=["$(MOUNT_POINT)", "$$(HOME)"], env=[{"name": "LEVEL", "value": "info"}]),
        secrets={"metaurl": b"redis://x"},
        mount_options=("noatime",),
        read_only=True,
        tools=TOOLS,
    )
    target = "/runtime-mnt/thin/volumes/pvc-digits/thin-fuse/ds"
    assert order.argv == ("mount", target, "$(HOME)")
    assert order.target_path == target
    assert order.files["/etc/fluid/secrets/volume/metaurl"] == b"redis://x"
    config = json.loads(order.files["/etc/fluid/config/config.json"])
    assert config["mounts"] == [
        {
            "mountPoint": "juicefs://digits",
            "path": "/",
            "options": {"noatime": "", "cache-size": "10", "metaurl": "/etc/fluid/secrets/volume/metaurl"},
        }
    ]
    assert config["targetPath"] == target
    assert order.env["LEVEL"] == "info"
    assert order.env["PATH"] == "/usr/bin"
    assert order.env["MOUNT_OPTIONS"] == "ro"
    assert (order.read_only, order.file_system_type, order.options) == (True, "juicefs", ("noatime",))
    assert b"redis" not in order.files["/etc/fluid/config/config.json"]


def test_a_volume_may_be_written_and_need_no_secret() -> None:
    order = order_for_volume("v", {"mountPoint": "s3://b"}, profile(), secrets={}, tools=TOOLS)
    assert not order.read_only
    assert "MOUNT_OPTIONS" not in order.env
    assert list(order.files) == ["/etc/fluid/config/config.json"]


@pytest.mark.parametrize(
    ("attributes", "fuse", "volumes", "error", "says"),
    [
        ({}, {}, [], InvalidSpec, "mountPoint"),
        ({"mountPoint": "x://y"}, {"command": []}, [], InvalidSpec, "command"),
        ({"mountPoint": "x://y"}, {"image": "a:1", "command": []}, [], InvalidSpec, "command"),
        (
            {"mountPoint": "x://y"},
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            [],
            Unsupported,
            "fieldRef",
        ),
        (
            {"mountPoint": "x://y"},
            {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
            [{"name": "v", "configMap": {"name": "c"}}],
            Unsupported,
            "configMap volume v",
        ),
    ],
)
def test_what_cannot_run_beside_a_volume(
    attributes: dict[str, str], fuse: Json, volumes: list[Json], error: type[HeadraceError], says: str
) -> None:
    chosen = profile(**fuse)
    chosen["spec"]["volumes"] = volumes
    with pytest.raises(error, match=says) as refusal:
        order_for_volume("v", attributes, chosen, secrets={}, tools=TOOLS)
    assert refusal.value.hint


DATASET: Json = {
    "metadata": {"name": "demo", "namespace": "vision"},
    "spec": {
        "mounts": [
            {
                "mountPoint": "s3://b",
                "encryptOptions": [{"name": "key", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}],
            }
        ]
    },
}


def test_a_dataset_becomes_an_order() -> None:
    runtime: Json = {"metadata": {"name": "demo"}, "spec": {"profileName": "p", "fuse": {"options": {"a": "1"}}}}
    env = [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}]
    volumes = [{"name": "scratch", "emptyDir": {}}]
    chosen = profile(env=env, volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}])
    chosen["spec"]["volumes"] = volumes
    sources = Sources(dataset=DATASET, runtime=runtime, profile=chosen)
    order = order_for_dataset(sources, secrets={"s3": {"k": b"v"}}, tools=TOOLS)
    assert order.name == "vision/demo"
    assert order.files["/etc/fluid/secrets/s3/k"] == b"v"
    assert order.env["K"] == "v"
    assert order.env["MOUNT_OPTIONS"] == "a=1,ro"
    assert order.cache_directories == ("/var/cache/fluid-fuse", "/scratch")
    with pytest.raises(InvalidSpec, match="Secret s3"):
        order_for_dataset(sources, secrets={}, tools=TOOLS)


def test_a_tenants_runtime_does_not_change_what_the_node_runs() -> None:
    runtime: Json = {"metadata": {"name": "demo"}, "spec": {"profileName": "p", "fuse": {"command": ["sh"]}}}
    with pytest.raises(Denied, match=r"spec\.fuse\.command"):
        order_for_dataset(Sources(dataset=DATASET, runtime=runtime, profile=profile()), secrets={}, tools=TOOLS)


@pytest.mark.parametrize(
    ("restrict", "says"),
    [
        ({"namespaces": ["speech"]}, "namespace vision"),
        ({"drivers": ["other"]}, None),
        ({"namespaces": ["vision"]}, None),
    ],
)
def test_a_profile_is_for_whom_its_owner_says(restrict: Json, says: str | None) -> None:
    chosen = profile()
    chosen["spec"]["restrict"] = restrict
    sources = Sources(dataset=DATASET, runtime={"metadata": {"name": "demo"}}, profile=chosen)
    if says is None:
        assert order_for_dataset(sources, secrets={"s3": {"k": b""}}, tools=TOOLS)
        return
    with pytest.raises(Denied, match=says):
        order_for_dataset(sources, secrets={"s3": {}}, tools=TOOLS)
