"""Packing code: the same bytes on every machine, nothing from outside, nothing that does not belong."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from headrace.errors import InvalidSpec
from headrace.sdk.code import pack


def project(root: Path) -> Path:
    (root / "pkg").mkdir(parents=True)
    (root / "train.py").write_text("print(1)\n")
    (root / "pkg" / "model.py").write_text("x = 1\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    return root


def names(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {info.name: info for info in archive.getmembers()}


def test_the_digest_depends_on_names_contents_and_executability_only(tmp_path: Path) -> None:
    one, two = project(tmp_path / "one"), project(tmp_path / "two")
    os.utime(two / "train.py", (1, 1))
    (two / "train.py").chmod(0o600)
    assert pack(one).digest == pack(two).digest
    (two / "train.py").chmod(0o700)
    assert pack(one).digest != pack(two).digest


def test_caches_and_repositories_stay_at_home(tmp_path: Path) -> None:
    root = project(tmp_path / "p")
    for name in (".git", "__pycache__", ".venv"):
        (root / name).mkdir()
        (root / name / "x").write_text("x")
    (root / ".headraceignore").write_text("# data\ndata/\n*.ckpt\n")
    (root / "data").mkdir()
    (root / "data" / "big").write_text("x")
    (root / "a.ckpt").write_text("x")
    assert set(names(pack(root).content)) == {".headraceignore", "pkg/model.py", "run.sh", "train.py"}


def test_links_inside_are_kept_and_links_outside_are_refused(tmp_path: Path) -> None:
    root = project(tmp_path / "p")
    (root / "same.py").symlink_to("train.py")
    assert names(pack(root).content)["same.py"].issym()
    (root / "secret").symlink_to("/etc/passwd")
    with pytest.raises(InvalidSpec, match="outside of it"):
        pack(root)


def test_a_missing_directory_and_a_huge_one_are_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="does not exist"):
        pack(tmp_path / "nowhere")
    root = project(tmp_path / "p")
    (root / "noise").write_bytes(os.urandom(200_000))
    with pytest.raises(InvalidSpec, match="packs to more than"):
        pack(root, max_bytes=100_000)
