"""The journal on disk: numbers, listeners, trimming, torn lines, and what was running when it stopped."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from headrace.sandbox import journal
from headrace.sandbox.journal import Entry, Journal, Stamp, last_proof, unfinished


def test_entries_are_numbered_stamped_and_kept(tmp_path: Path) -> None:
    first = Journal(str(tmp_path))
    written = first.append({"type": "a"}, {"type": "b", "wall_ns": 7})
    assert [(entry["seq"], entry["type"]) for entry in written] == [(1, "a"), (2, "b")]
    assert written[0]["boot_id"] == journal.boot_id()
    assert written[1]["wall_ns"] == 7, "an instant given is kept"
    first.close()
    second = Journal(str(tmp_path))
    assert second.entries == written
    assert second.append({"type": "c"})[0]["seq"] == 3
    second.close()


def test_listeners_are_told_after_it_is_on_disk(tmp_path: Path) -> None:
    kept = Journal(str(tmp_path))
    seen: list[bytes] = []

    def listen(_entries: Sequence[Entry]) -> None:
        seen.append((tmp_path / "journal.jsonl").read_bytes())

    kept.listeners.append(listen)
    kept.append({"type": "a"})
    assert seen == [(tmp_path / "journal.jsonl").read_bytes()]
    assert b'"type":"a"' in seen[0]
    kept.close()


@pytest.mark.parametrize(
    "tail", [b'{"seq": 3, "ty', b"\n", b"\x00\x00\x00", b"[]\n", b'{"type": "x"}\n', b'"' * 9 + b"\n"]
)
def test_a_torn_tail_is_dropped(tmp_path: Path, tail: bytes) -> None:
    kept = Journal(str(tmp_path))
    kept.append({"type": "a"}, {"type": "b"})
    kept.close()
    path = tmp_path / "journal.jsonl"
    good = path.read_bytes()
    path.write_bytes(good + tail)
    kept = Journal(str(tmp_path))
    assert [entry["seq"] for entry in kept.entries] == [1, 2]
    assert path.read_bytes() == good
    assert kept.append({"type": "c"})[0]["seq"] == 3
    kept.close()


def test_trimming_keeps_the_numbering(tmp_path: Path) -> None:
    kept = Journal(str(tmp_path))
    kept.append(*({"type": str(number)} for number in range(5)))
    kept.trim(3)
    assert [entry["seq"] for entry in kept.after(0)] == [4, 5]
    kept.trim(100)
    assert [entry["seq"] for entry in kept.after(0)] == [5]
    kept.append({"type": "next"})
    kept.close()
    kept = Journal(str(tmp_path))
    assert [entry["seq"] for entry in kept.after(4)] == [5, 6]
    kept.close()


def test_a_full_disk_raises_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Journal(str(tmp_path))
    kept.append({"type": "a"})
    good = (tmp_path / "journal.jsonl").read_bytes()

    real_write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 20:
            return real_write(fd, data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        kept.append({"type": "b"})
    monkeypatch.undo()
    assert (tmp_path / "journal.jsonl").read_bytes() == good
    assert kept.append({"type": "c"})[0]["seq"] == 2
    assert [entry["type"] for entry in kept.entries] == ["a", "c"]
    kept.close()


def test_the_stamp_is_read_back(tmp_path: Path) -> None:
    stamp = Stamp(str(tmp_path))
    assert stamp.read() is None
    stamp.write()
    first = stamp.read()
    stamp.write()
    second = Stamp(str(tmp_path)).read()
    assert first is not None
    assert second is not None
    assert first["wall_ns"] < second["wall_ns"]
    (tmp_path / "last-alive").write_text("garbage")
    assert stamp.read() is None


def test_what_ran_when_the_journal_stopped() -> None:
    def entry(kind: str, pod: str, container: str = "") -> Entry:
        return {"type": kind, "pod": pod, "container": container}

    containers, pods = unfinished(
        [
            {"type": "world-started"},
            entry("pod-created", "p"),
            entry("pod-created", "q"),
            entry("container-started", "p", "a"),
            entry("container-started", "p", "b"),
            entry("container-exited", "p", "a"),
            entry("container-started", "q", "a"),
            entry("container-exited", "q", "a"),
            entry("pod-removed", "q"),
            entry("container-started", "p", "a"),
        ]
    )
    assert [(found["pod"], found["container"]) for found in containers] == [("p", "b"), ("p", "a")]
    assert [found["pod"] for found in pods] == ["p"]


def test_facts_that_cannot_be_written_are_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Journal(str(tmp_path))

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    kept.note({"type": "container-exited"})
    kept.write_late()
    monkeypatch.undo()
    assert kept.entries == []
    before = journal.now("")["wall_ns"]
    kept.write_late()
    kept.write_late()
    assert [entry["type"] for entry in kept.entries] == ["container-exited"]
    assert kept.entries[0]["wall_ns"] < before, "as of when it happened"
    kept.close()


def test_trimming_keeps_what_still_runs(tmp_path: Path) -> None:
    """Otherwise the next world would not know what a killed one ran."""
    kept = Journal(str(tmp_path))
    kept.append({"type": "pod-created", "pod": "p"}, {"type": "container-started", "pod": "p", "container": "c"})
    kept.append({"type": "pod-created", "pod": "q"}, {"type": "pod-removed", "pod": "q"})
    kept.trim(4)
    assert [entry["seq"] for entry in kept.entries] == [1, 2, 4], "and the last, which carries the numbering on"
    kept.close()


def test_the_last_proof_of_life() -> None:
    def at(mono_ns: int, wall_ns: int, boot: str = "now") -> Entry:
        return {"mono_ns": mono_ns, "wall_ns": wall_ns, "boot_id": boot}

    assert last_proof([at(1, 1)], None) == at(1, 1)
    assert last_proof([at(1, 1)], at(5, 5)) == at(5, 5), "the stamp is later"
    assert last_proof([at(1, 1), at(9, 9), at(7, 7)], at(5, 5)) == at(9, 9), "starts are stamped where they happen"
    assert last_proof([at(9, 4), at(1, 9)], None) == at(9, 4), "the wall clock was set back"
    assert last_proof([at(900, 1, "before"), at(2, 5)], at(800, 3, "before")) == at(2, 5), "other boots prove nothing"
