"""What a client is told to mount: config.json, MOUNT_OPTIONS, secrets as files, and volumes behind claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.fuse.clients.contract import Contract, Unusable, read_contract


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "secrets" / "s").mkdir(parents=True)
    (tmp_path / "secrets" / "s" / "metaurl").write_text("redis://h/1\n")
    (tmp_path / "secrets" / "s" / "..data").mkdir()
    return tmp_path


def _read(place: Path, environment: dict[str, str] | None = None, **config: Any) -> Contract:
    (place / "config.json").write_text(
        json.dumps({"targetPath": "/t/ds", "mounts": [{"mountPoint": "s3://b"}], **config})
    )
    return read_contract(
        config_file=str(place / "config.json"),
        secrets_directory=str(place / "secrets"),
        environment=environment or {},
    )


def test_options_of_all_places_with_the_mounts_own_winning(place: Path) -> None:
    contract = _read(
        place,
        {"MOUNT_OPTIONS": "a=profile,b=profile,c=profile,allow_other,_netdev"},
        runtimeOptions={"b": "runtime", "c": "runtime"},
        mounts=[{"mountPoint": "s3://b", "options": {"c": "mount"}}],
    )
    assert contract.mounts[0].options == {"a": "profile", "b": "runtime", "c": "mount"}


@pytest.mark.parametrize(
    ("environment", "config", "read_only"),
    [
        ({}, {}, False),
        ({"MOUNT_OPTIONS": "ro"}, {}, True),
        ({}, {"accessModes": ["ReadOnlyMany"]}, True),
        ({}, {"accessModes": ["ReadOnlyMany", "ReadWriteMany"]}, False),
        ({}, {"mounts": [{"mountPoint": "s3://b", "readOnly": True}]}, True),
        ({}, {"mounts": [{"mountPoint": "s3://b", "readOnly": True}, {"mountPoint": "s3://c"}]}, False),
        ({}, {"runtimeOptions": {"ro": ""}}, True),
    ],
)
def test_read_only(place: Path, environment: dict[str, str], config: dict[str, Any], read_only: bool) -> None:
    assert _read(place, environment, **config).read_only is read_only


def test_a_secret_is_the_content_of_its_file(place: Path) -> None:
    options = {"metaurl": f"{place}/secrets/s/metaurl", "path": "/etc/other"}
    contract = _read(place, mounts=[{"mountPoint": "juicefs://v", "options": options}])
    assert contract.mounts[0].options == {"metaurl": "redis://h/1", "path": "/etc/other"}


def test_a_claims_volume_says_what_its_mount_does_not(place: Path) -> None:
    volume = {
        "driver": "fuse.headrace.io",
        "volumeAttributes": {
            "mountPoint": "juicefs://v",
            "option.subdir": "/a",
            "option.cache-size": "1",
            "profile": "p",
        },
        "nodePublishSecretRef": {"name": "s"},
        "readOnly": True,
    }
    contract = _read(
        place,
        {"MOUNT_OPTIONS": "prefetch=1,subdir=/profile"},
        mounts=[{"mountPoint": "pvc://c", "options": {"cache-size": "2"}}],
        persistentVolumeAttrs={"c": volume},
        persistentVolumeMountOptions={"c": ["prefetch=3", "subdir=/pv"]},
    )
    [mount] = contract.mounts
    assert mount.point == "juicefs://v"
    assert mount.options == {"metaurl": "redis://h/1", "subdir": "/a", "cache-size": "2", "prefetch": "3"}
    assert contract.read_only


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"mounts": []}, "has no mounts"),
        ({"mounts": [{"mountPoint": "pvc://gone"}]}, "volume of claim gone is not known"),
        ({"targetPath": None, "mounts": None}, "cannot be read as a client's configuration"),
    ],
)
def test_what_cannot_be_known_is_said(place: Path, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Unusable, match=sentence):
        _read(place, **config)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="cannot be read"):
        read_contract(config_file=str(tmp_path / "none"), environment={})
