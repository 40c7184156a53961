"""Small files survive being written at any moment of a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.node.volumes.places import Note, PodPlace, read_file, write_file


def test_the_last_content_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert read_file(path) is None
    for content in (b"one", b"two", b""):
        write_file(path, content)
        assert read_file(path) == content
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("crash", ["unlink", "rename", "write"])
def test_a_crash_leaves_the_old_or_the_new(tmp_path: Path, crash: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_file(path, b"old")

    class Crash(Exception):
        pass

    def fail(self: Path, *arguments: object, **more: object) -> None:
        if crash == "write":
            real(self, b"ha")
        raise Crash

    method = {"unlink": "unlink", "rename": "rename", "write": "write_bytes"}[crash]
    real = getattr(Path, method)
    with monkeypatch.context() as patched:
        patched.setattr(Path, method, fail)
        with pytest.raises(Crash):
            write_file(path, b"new")
    assert read_file(path) == (b"new" if crash == "rename" else b"old")
    write_file(path, b"newer")
    assert read_file(path) == b"newer"


def test_notes(tmp_path: Path) -> None:
    place = PodPlace(tmp_path, "uid")
    place.make()
    place.make_volume("v")
    place.note("v", Note(driver="d", volume_id="i", persistent=True))
    assert list(place.notes()) == [("v", Note("d", "i", True))]
    (place.volume("v") / "volume.json").write_bytes(b"")
    assert list(place.notes()) == []
    place.note("v", Note())
    place.forget("v")
    place.forget("v")
    assert list(place.notes()) == []
