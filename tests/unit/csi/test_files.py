"""What the driver keeps of a volume: read back whole, private, and with the client's last words."""

from __future__ import annotations

from pathlib import Path

from headrace.csi.files import Record, VolumeFiles, order_from_json, order_to_json
from headrace.fuse.order import MountOrder

_ORDER = MountOrder(
    name="volume v",
    argv=("juicefs", "mount"),
    target_path="/t/ds",
    env={"A": "b"},
    files={"/etc/fluid/secrets/s/key": b"secret"},
    read_only=True,
    cache_directories=("/cache",),
)


def _files(tmp_path: Path) -> VolumeFiles:
    files = VolumeFiles(str(tmp_path / "v"))
    files.make()
    return files


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    files = _files(tmp_path)
    record = Record(volume_id="v", read_only=True, world=5, attempt=2, order=order_to_json(_ORDER), targets=["/a"])
    files.save(record)
    assert files.load() == record
    assert (tmp_path / "v" / "volume.json").stat().st_mode & 0o777 == 0o600
    assert b"secret" not in (tmp_path / "v" / "volume.json").read_bytes()


def test_a_record_that_is_none_is_no_record(tmp_path: Path) -> None:
    files = _files(tmp_path)
    assert files.load() is None
    for text in ("", "[]", '{"unknown": 1}'):
        (tmp_path / "v" / "volume.json").write_text(text)
        assert files.load() is None


def test_an_order_comes_back_but_for_its_files() -> None:
    back = order_from_json(order_to_json(_ORDER))
    assert back == MountOrder(**{**{name: getattr(_ORDER, name) for name in order_to_json(_ORDER)}, "files": {}})


def test_files_are_private_and_written_anew(tmp_path: Path) -> None:
    files = _files(tmp_path)
    files.write_files({"/a": b"1", "/b": b"2"})
    names = files.write_files({"/c": b"3"})
    assert list(names) == ["/c"]
    [only] = (tmp_path / "v" / "files").iterdir()
    assert only.read_bytes() == b"3"
    assert only.stat().st_mode & 0o077 == 0
    assert (tmp_path / "v" / "files").stat().st_mode & 0o077 == 0


def test_the_last_words_are_those_about_trouble(tmp_path: Path) -> None:
    files = _files(tmp_path)
    assert files.last_words() == ""
    lines = ["<INFO>: starts", "<FATAL>: no such bucket", "<FATAL>: no such bucket", "<INFO>: more"]
    Path(files.log).write_text("".join(f"2026-01-01T00:00:00.0Z stderr F {line}\n" for line in lines))
    assert files.last_words() == "<FATAL>: no such bucket"
    Path(files.log).write_text("2026-01-01T00:00:00.0Z stdout F one\n2026-01-01T00:00:00.0Z stdout F two\n")
    assert files.last_words() == "one | two"


def test_removing_twice_is_removing_once(tmp_path: Path) -> None:
    files = _files(tmp_path)
    files.remove()
    files.remove()
    assert not (tmp_path / "v").exists()
