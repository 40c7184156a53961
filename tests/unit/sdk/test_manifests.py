"""Reading manifests as people write them, and naming what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import InvalidSpec
from headrace.sdk import manifests


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_many_documents_lists_and_directories(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "kind: A\n---\n---\nkind: B\n")
    write(tmp_path / "b.json", '{"kind": "List", "items": [{"kind": "C"}, {"kind": "D"}]}')
    write(tmp_path / "notes.txt", "not a manifest")
    assert [m["kind"] for m in manifests.read([str(tmp_path)])] == ["A", "B", "C", "D"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kind: A\n  bad: indent\n", "line 2"),
        ("- 1\n- 2\n", "without a kind"),
        ("", "There is no object"),
        ("kind: [", "line"),
    ],
)
def test_what_is_no_manifest_is_said_with_file_and_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InvalidSpec, match=sentence):
        manifests.read([write(tmp_path / "x.yaml", text)])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="cannot be read: No such file"):
        manifests.read([str(tmp_path / "x.yaml")])


@pytest.mark.parametrize(
    "word", ["trainjob", "TrainJobs", "tj", "trainjobs.headrace.io", "pvc", "PersistentVolumeClaim"]
)
def test_kinds_are_found_by_every_name(word: str) -> None:
    assert manifests.find_kind(word).name in {"TrainJob", "PersistentVolumeClaim"}


def test_a_misspelt_kind_is_told_the_nearest() -> None:
    with pytest.raises(InvalidSpec, match="datasets"):
        manifests.find_kind("dataset_s")
    with pytest.raises(InvalidSpec, match="TrainJob"):
        manifests.kind_of({"apiVersion": "headrace.io/v1alpha1", "kind": "TrainJobb"})
    with pytest.raises(InvalidSpec, match=r"apiVersion: headrace\.io/v1alpha1"):
        manifests.kind_of({"apiVersion": "headrace.io/v1", "kind": "TrainJob"})
