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


def test_a_date_stays_a_text_and_a_key_given_twice_is_said(tmp_path: Path) -> None:
    (found,) = manifests.read([write(tmp_path / "x.yaml", "kind: A\nspec: {day: 2026-11-01, on: yes}\n")])
    assert found["spec"]["day"] == "2026-11-01"
    with pytest.raises(InvalidSpec, match=r"line 3: 'a' is given twice"):
        manifests.read([write(tmp_path / "y.yaml", "kind: A\na: 1\na: 2\n")])


def test_anchors_and_merges_work(tmp_path: Path) -> None:
    text = "kind: A\nbase: &b {x: 1}\nspec: {<<: *b, y: 2}\n"
    assert manifests.read([write(tmp_path / "x.yaml", text)])[0]["spec"] == {"x": 1, "y": 2}


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSpec, match="not a text file"):
        manifests.read([str(tmp_path / "x.yaml")])


def test_relative_paths_start_where_the_file_is(tmp_path: Path) -> None:
    (found,) = manifests.load([write(tmp_path / "x.yaml", "kind: A\n")])
    assert found.base == tmp_path.resolve()


@pytest.mark.parametrize("text", ["kind: List\nitems: [1]\n", "kind: A\nmetadata: text\n", "kind: 3\n"])
def test_what_is_no_object(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSpec):
        manifests.read([write(tmp_path / "x.yaml", text)])


def test_a_part_of_a_name_is_enough_for_a_guess() -> None:
    with pytest.raises(InvalidSpec, match=r"Did you mean .*trainjobs"):
        manifests.find_kind("job")
