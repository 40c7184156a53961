"""config.json, against what CNCF Fluid writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.data.runtime.config import (
    COPY_PUBLISH_SECRET,
    NO_PUBLISH_SECRET,
    ClaimVolume,
    claim_volume,
    is_read_only,
    render_config,
)
from headrace.errors import HeadraceError, InvalidSpec, Unsupported
from headrace.spec.kind import Json


def dataset(*mounts: Json, **spec: Any) -> Json:
    return {"metadata": {"name": "demo", "namespace": "vision"}, "spec": {"mounts": list(mounts), **spec}}


def rendered(data: Json, **arguments: Any) -> Json:
    defaults: Json = {"runtime_options": {}, "volumes": {}, "secret_policy": ""}
    config: Json = json.loads(render_config(data, **{**defaults, **arguments}).text)
    return config


def secret_option(name: str, secret: str, key: str) -> Json:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def test_a_plain_dataset_is_rendered_as_fluid_does() -> None:
    data = dataset(
        {
            "mountPoint": "s3://bucket/train",
            "name": "train",
            "path": "/t",
            "readOnly": True,
            "options": {"url": "http://minio", "region": "here"},
            "encryptOptions": [secret_option("access-key", "s3", "ak")],
        },
        {"mountPoint": "s3://other", "name": "other"},
        sharedOptions={"url": "http://shared", "x": "1"},
        sharedEncryptOptions=[secret_option("secret-key", "shared", "sk")],
    )
    config = render_config(data, runtime_options={"cache": "1"}, volumes={}, secret_policy="")
    assert json.loads(config.text) == {
        "mounts": [
            {
                "mountPoint": "s3://bucket/train",
                "name": "train",
                "path": "/t",
                "readOnly": True,
                "options": {
                    "url": "http://minio",
                    "region": "here",
                    "x": "1",
                    "secret-key": "/etc/fluid/secrets/shared/sk",
                    "access-key": "/etc/fluid/secrets/s3/ak",
                },
            },
            {
                "mountPoint": "s3://other",
                "name": "other",
                "options": {"url": "http://shared", "x": "1", "secret-key": "/etc/fluid/secrets/shared/sk"},
            },
        ],
        "targetPath": "/runtime-mnt/thin/vision/demo/thin-fuse/ds",
        "runtimeOptions": {"cache": "1"},
        "accessModes": ["ReadOnlyMany"],
    }
    assert config.secrets == ("shared", "s3")


def test_the_same_dataset_is_the_same_text() -> None:
    one = dataset({"mountPoint": "s3://a", "options": {"a": "1", "b": "2"}})
    two = dataset({"options": {"b": "2", "a": "1"}, "mountPoint": "s3://a"})
    render = {"runtime_options": {}, "volumes": {}, "secret_policy": ""}
    assert render_config(one, **render).text == render_config(two, **render).text  # type: ignore[arg-type]


FOREIGN: Json = {
    "driver": "csi.starfs.io",
    "volumeHandle": "v1",
    "volumeAttributes": {"server": "10.0.0.1"},
    "nodePublishSecretRef": {"name": "starfs", "namespace": "storage"},
}


def test_a_claim_of_another_driver_hands_on_its_attributes() -> None:
    volume = ClaimVolume(claim="starfs-pvc", csi=FOREIGN, mount_options=("noatime",), secret_keys=("token",))
    data = dataset({"mountPoint": "pvc://starfs-pvc"}, accessModes=["ReadWriteMany"])
    config = render_config(data, runtime_options={}, volumes={"starfs-pvc": volume}, secret_policy="")
    assert json.loads(config.text) == {
        "mounts": [{"mountPoint": "pvc://starfs-pvc"}],
        "targetPath": "/runtime-mnt/thin/vision/demo/thin-fuse/ds",
        "accessModes": ["ReadWriteMany"],
        "persistentVolumeAttrs": {"starfs-pvc": FOREIGN},
        "persistentVolumeMountOptions": {"starfs-pvc": ["noatime"]},
    }
    assert config.secrets == ("starfs",)
    assert not config.notes


def test_a_claim_of_our_own_driver_is_written_out() -> None:
    csi: Json = {
        "driver": "fuse.headrace.io",
        "volumeHandle": "digits",
        "volumeAttributes": {"profile": "juicefs", "mountPoint": "juicefs://digits", "option.subdir": "/a"},
        "nodePublishSecretRef": {"name": "jfs", "namespace": "vision"},
    }
    words = ("noatime", "subdir=/z", "cache-size=5")
    volume = ClaimVolume(claim="digits", csi=csi, mount_options=words, secret_keys=("metaurl",))
    data = dataset({"mountPoint": "pvc://digits", "path": "/", "options": {"subdir": "/b"}})
    mounts = rendered(data, volumes={"digits": volume})["mounts"]
    assert mounts == [
        {
            "mountPoint": "juicefs://digits",
            "path": "/",
            "options": {
                "noatime": "",
                "cache-size": "5",
                "subdir": "/b",
                "metaurl": "/etc/fluid/secrets/jfs/metaurl",
            },
        }
    ]


def test_a_secret_that_is_elsewhere_is_not_copied_but_said() -> None:
    volume = ClaimVolume(claim="c", csi=FOREIGN, secret_keys=None)
    data = dataset({"mountPoint": "pvc://c"})
    config = render_config(data, runtime_options={}, volumes={"c": volume}, secret_policy="")
    assert config.secrets == ()
    assert "storage/starfs" in config.notes[0]
    quiet = render_config(data, runtime_options={}, volumes={"c": volume}, secret_policy=NO_PUBLISH_SECRET)
    assert quiet.notes == ()
    with pytest.raises(Unsupported, match="never does"):
        render_config(data, runtime_options={}, volumes={"c": volume}, secret_policy=COPY_PUBLISH_SECRET)


@pytest.mark.parametrize(
    ("mounts", "error", "says"),
    [
        ([], InvalidSpec, "mounts nothing"),
        ([{"mountPoint": "pvc://a"}, {"mountPoint": "pvc://b"}], InvalidSpec, "more than one claim"),
        ([{"mountPoint": "pvc://a/b"}], Unsupported, "inside a claim"),
        ([{"mountPoint": "dataset://a/b"}], Unsupported, "another Dataset"),
        ([{"mountPoint": "s3://a", "options": {"fluid.fuse.hostvolume": "/etc"}}], Unsupported, "hostvolume"),
        ([{"mountPoint": "s3://a", "name": "x"}, {"mountPoint": "s3://b", "name": "x"}], InvalidSpec, "name x"),
        ([{"mountPoint": "s3://a", "encryptOptions": [{"name": "k"}]}], InvalidSpec, "no Secret"),
    ],
)
def test_mounts_that_cannot_be(mounts: list[Json], error: type[HeadraceError], says: str) -> None:
    with pytest.raises(error, match=says) as refusal:
        rendered(dataset(*mounts))
    assert refusal.value.hint


def test_only_csi_volumes_say_what_to_mount() -> None:
    volume: Json = {"metadata": {"name": "pv"}, "spec": {"nfs": {"server": "x"}}}
    with pytest.raises(InvalidSpec, match="nfs volume"):
        claim_volume("c", volume, None)


def test_mount_options_come_from_spec_or_annotation() -> None:
    annotated: Json = {
        "metadata": {"name": "pv", "annotations": {"volume.beta.kubernetes.io/mount-options": "a,b"}},
        "spec": {"csi": FOREIGN},
    }
    assert claim_volume("c", annotated, None).mount_options == ("a", "b")
    annotated["spec"]["mountOptions"] = ["x"]
    assert claim_volume("c", annotated, None).mount_options == ("x",)


@pytest.mark.parametrize(
    ("modes", "mounts", "csi", "read_only"),
    [
        ([], [{}], {}, True),
        (["ReadOnlyMany"], [{}], {}, True),
        (["ReadWriteMany"], [{}], {}, False),
        (["ReadOnlyMany", "ReadWriteOnce"], [{}], {}, False),
        (["ReadWriteMany"], [{"readOnly": True}, {}], {}, False),
        (["ReadWriteMany"], [{"readOnly": True}], {}, True),
        (["ReadWriteMany"], [{}], {"readOnly": True}, True),
        (["ReadWriteMany"], [{}], {"mountOptions": ["ro"]}, True),
    ],
)
def test_who_may_write(modes: list[str], mounts: list[Json], csi: Json, read_only: bool) -> None:
    data = dataset(*mounts, accessModes=modes)
    options = tuple(csi.get("mountOptions", ()))
    assert is_read_only(data, {"c": ClaimVolume(claim="c", csi=csi, mount_options=options)}) is read_only
