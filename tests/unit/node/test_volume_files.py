"""Volumes made of files: their content, and that they change all at once."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import InvalidSpec, NotFound, Unsupported
from headrace.node.downward import PodFacts
from headrace.node.env import Reference
from headrace.node.podspec import PodSpec
from headrace.node.volumes import atomic, hostpath, payload
from headrace.node.volumes.atomic import File

MakePod = Callable[..., dict[str, Any]]
CONFIG = Reference("ConfigMap", "c")
SECRET = Reference("Secret", "s")


def inputs(**tokens: str) -> payload.Inputs:
    return payload.Inputs(
        objects={
            CONFIG: {"metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}, "binaryData": {"z": "AAE="}},
            SECRET: {"metadata": {"name": "s"}, "data": {"k": base64.b64encode(b"key").decode()}},
        },
        tokens={payload.TokenWanted("", 3600): "jwt"},
        pod=PodFacts("own", "127.0.0.1", "127.64.0.1"),
        allocatable={},
    )


def files(make_pod: MakePod, volume: dict[str, Any]) -> dict[str, tuple[bytes, int]]:
    pod = PodSpec(make_pod({"name": "app", "resources": {"limits": {"cpu": "2"}}}))
    return {path: tuple(file) for path, file in payload.files(pod, {"name": "v", **volume}, inputs()).items()}  # type: ignore[misc]


class TestPayload:
    def test_all_keys(self, make_pod: MakePod) -> None:
        found = files(make_pod, {"configMap": {"name": "c", "defaultMode": 0o400}})
        assert found == {"a": (b"1", 0o400), "b": (b"2", 0o400), "z": (b"\0\1", 0o400)}

    def test_items_and_modes(self, make_pod: MakePod) -> None:
        found = files(make_pod, {"secret": {"secretName": "s", "items": [{"key": "k", "path": "d/e", "mode": 0o600}]}})
        assert found == {"d/e": (b"key", 0o600)}

    def test_projected(self, make_pod: MakePod) -> None:
        sources = [
            {"configMap": {"name": "c", "items": [{"key": "a", "path": "same"}]}},
            {"secret": {"name": "s"}},
            {
                "downwardAPI": {
                    "items": [
                        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                        {"path": "cpu", "resourceFieldRef": {"containerName": "app", "resource": "limits.cpu"}},
                    ]
                }
            },
            {"serviceAccountToken": {"path": "token"}},
            {"configMap": {"name": "c", "items": [{"key": "b", "path": "same"}]}},
        ]
        found = files(make_pod, {"projected": {"sources": sources}})
        assert {path: content for path, (content, _) in found.items()} == {
            "same": b"2",
            "k": b"key",
            "name": b"p",
            "cpu": b"2",
            "token": b"jwt",
        }

    @pytest.mark.parametrize(
        ("volume", "error", "sentence"),
        [
            ({"configMap": {"name": "none"}}, NotFound, 'configmap "none" not found'),
            ({"secret": {"secretName": "s", "items": [{"key": "x", "path": "x"}]}}, NotFound, "no key 'x'"),
            ({"configMap": {"name": "c", "items": [{"key": "a", "path": "../x"}]}}, InvalidSpec, "no path inside"),
            ({"projected": {"sources": [{"clusterTrustBundle": {}}]}}, Unsupported, "clusterTrustBundle"),
        ],
    )
    def test_what_cannot_be(
        self, make_pod: MakePod, volume: dict[str, Any], error: type[Exception], sentence: str
    ) -> None:
        with pytest.raises(error, match=sentence):
            files(make_pod, volume)

    def test_optional(self, make_pod: MakePod) -> None:
        assert files(make_pod, {"configMap": {"name": "none", "optional": True}}) == {}
        missing = {"name": "c", "optional": True, "items": [{"key": "x", "path": "x"}]}
        assert files(make_pod, {"configMap": missing}) == {}

    def test_references(self) -> None:
        projected = {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}, {"serviceAccountToken": {}}]}
        volume = {"name": "v", "projected": projected}
        assert payload.references(volume) == {CONFIG, SECRET}
        assert payload.tokens(volume) == {payload.TokenWanted("", 3600)}


class TestAtomicWrite:
    def test_layout_and_change(self, tmp_path: Path) -> None:
        root = str(tmp_path)
        assert atomic.write(root, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o400)})
        first = os.readlink(tmp_path / "..data")
        assert (tmp_path / "a").read_bytes() == b"1"
        assert os.readlink(tmp_path / "a") == "..data/a"
        assert (tmp_path / "d" / "b").stat().st_mode & 0o777 == 0o400
        held = os.open(tmp_path / "..data", os.O_PATH | os.O_DIRECTORY)

        assert not atomic.write(root, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o400)})
        assert os.readlink(tmp_path / "..data") == first

        assert atomic.write(root, {"a": File(b"new", 0o644), "c": File(b"", 0o644)})
        assert (tmp_path / "a").read_bytes() == b"new"
        assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["a", "c"]
        assert len([p for p in tmp_path.iterdir() if p.name.startswith("..2")]) == 1
        os.close(held)

    def test_a_write_cut_short_is_completed(self, tmp_path: Path) -> None:
        atomic.write(str(tmp_path), {"a": File(b"1", 0o644)})
        (tmp_path / "a").unlink()
        (tmp_path / "..2020_01_01_00_00_00.1").mkdir()
        (tmp_path / "..data_tmp").symlink_to("..2020_01_01_00_00_00.1")
        assert not atomic.write(str(tmp_path), {"a": File(b"1", 0o644)})
        assert (tmp_path / "a").read_bytes() == b"1"
        assert atomic.write(str(tmp_path), {"a": File(b"2", 0o644)})
        assert not (tmp_path / "..2020_01_01_00_00_00.1").exists()

    @pytest.mark.parametrize("path", ["", "/a", "../a", "a/../../b", "..data", "..x/y"])
    def test_paths_that_lead_out(self, path: str) -> None:
        with pytest.raises(InvalidSpec):
            atomic.check_path(path)


class TestHostPath:
    def test_types(self, tmp_path: Path) -> None:
        closed = str(tmp_path / "home")
        file = tmp_path / "file"
        file.write_text("x")
        assert hostpath.prepare(str(file), "", closed) == str(file)
        assert hostpath.prepare(str(file), "File", closed) == str(file)
        made = tmp_path / "new" / "deep"
        assert hostpath.prepare(str(made), "DirectoryOrCreate", closed) == str(made)
        assert made.is_dir()
        touched = tmp_path / "touched"
        hostpath.prepare(str(touched), "FileOrCreate", closed)
        assert touched.is_file()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            assert hostpath.prepare(str(tmp_path / "s"), "Socket", closed)
        assert hostpath.prepare("/dev/null", "CharDevice", closed) == "/dev/null"

    @pytest.mark.parametrize(
        ("name", "type", "sentence"),
        [
            ("file", "Directory", "is not a directory"),
            ("file", "Bogus", "unknown"),
            ("none", "", "No such file"),
            ("home/pki", "", "lies inside"),
            ("link", "", "lies inside"),
        ],
    )
    def test_refusals(self, tmp_path: Path, name: str, type: str, sentence: str) -> None:
        (tmp_path / "file").write_text("x")
        (tmp_path / "home" / "pki").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "home")
        with pytest.raises(InvalidSpec, match=sentence):
            hostpath.prepare(str(tmp_path / name), type, str(tmp_path / "home"))
