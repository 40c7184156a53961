"""What happened in a world, on disk before anybody is told: JSON lines with a number each, fsynced.

The journal outlives its world, so that who bills and reconciles can replay what it missed. A line cut short by a
crash was told to nobody and is dropped. `stamp` keeps a proof of life beside it, so that what a killed world ran can
be ended at the last proven instant and not later.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

Entry = dict[str, Any]

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    with open(_BOOT_ID) as file:
        return file.read().strip()


def now(boot: str) -> Entry:
    """Return this instant as entries hold it."""
    return {"wall_ns": time.time_ns(), "mono_ns": time.monotonic_ns(), "boot_id": boot}


class Journal:
    """The journal in directory `directory`, made if missing. One process at a time.

    Attributes:
        entries: all entries kept, oldest first; treat as read-only.
        seq: the last number given, 0 for none ever.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, "journal.jsonl")
        self._boot_id = boot_id()
        self.listeners: list[Callable[[Sequence[Entry]], None]] = []
        self.entries: list[Entry] = []
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.seq = 0
        self._late: list[Entry] = []
        self._load()

    def append(self, *entries: Entry) -> list[Entry]:
        """Number, stamp and write entries with one fsync, then tell the listeners; return them as written.

        An entry that carries its own `wall_ns`, `mono_ns` and `boot_id` keeps them. Raises OSError (a full disk); the
        journal is then as it was before.
        """
        if self._late:
            self.write_late(strict=True)
        return self._append(entries)

    def note(self, *entries: Entry) -> None:
        """Append what is so whether it can be written or not, as of now; what cannot be is kept for `write_late`."""
        for entry in entries:
            entry.update({**now(self._boot_id), **entry})
        self._late += entries
        self.write_late()

    def write_late(self, *, strict: bool = False) -> None:
        """Write what a full disk has held up, in order; call now and then. Raises OSError only when `strict`."""
        if not self._late:
            return
        try:
            self._append(self._late)
        except OSError:
            if strict:
                raise
        else:
            self._late = []

    def after(self, seq: int) -> list[Entry]:
        """Return the entries with a number above `seq`, oldest first."""
        return [entry for entry in self.entries if entry["seq"] > seq]

    def trim(self, upto: int) -> None:
        """Drop the entries numbered up to and with `upto`.

        Kept is what the next world needs should this one be killed: the starts of what still runs, and the last entry,
        which carries the numbering on.
        """
        needed = {entry["seq"] for entries in unfinished(self.entries) for entry in entries} | {self.seq}
        keep = [entry for entry in self.entries if entry["seq"] > upto or entry["seq"] in needed]
        if len(keep) == len(self.entries):
            return
        fresh_path = f"{self._path}.new"
        fresh = os.open(fresh_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._write(fresh, keep)
        os.fsync(fresh)
        os.rename(fresh_path, self._path)
        self._sync_directory()
        os.close(self._fd)
        self._fd = fresh
        self.entries = keep

    def close(self) -> None:
        os.close(self._fd)

    def _append(self, entries: Sequence[Entry]) -> list[Entry]:
        written = [{"seq": self.seq + place, **now(self._boot_id), **entry} for place, entry in enumerate(entries, 1)]
        size_bytes = os.fstat(self._fd).st_size
        try:
            self._write(self._fd, written)
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, size_bytes)  # half a line would hide all that comes after it
            os.lseek(self._fd, size_bytes, os.SEEK_SET)
            raise
        self.seq += len(written)
        self.entries += written
        for listener in list(self.listeners):
            listener(written)
        return written

    def _load(self) -> None:
        good_bytes = 0
        with open(self._path, "rb") as file:
            for line in file:
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    entry = None
                if not isinstance(entry, dict) or not isinstance(entry.get("seq"), int):
                    break
                self.entries.append(entry)
                good_bytes += len(line)
        os.ftruncate(self._fd, good_bytes)
        os.lseek(self._fd, 0, os.SEEK_END)
        self._sync_directory()
        self.seq = self.entries[-1]["seq"] if self.entries else 0

    def _sync_directory(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @staticmethod
    def _write(fd: int, entries: Sequence[Entry]) -> None:
        data = b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in entries)
        while data:
            data = data[os.write(fd, data) :]


class Stamp:
    """The file `last-alive`, overwritten in place with this instant every second.

    Not fsynced: the page cache survives the death of any process, and a machine that loses power has a new boot id.
    """

    def __init__(self, directory: str) -> None:
        self._boot_id = boot_id()
        self._fd = os.open(os.path.join(directory, "last-alive"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> Entry | None:
        """Return the last instant stamped, by this process or one before it; None when there is none."""
        try:
            stamped = json.loads(os.pread(self._fd, 512, 0))
        except ValueError:
            return None
        return stamped if isinstance(stamped, dict) and "wall_ns" in stamped else None

    def write(self) -> None:
        os.pwrite(self._fd, json.dumps(now(self._boot_id)).ljust(200).encode() + b"\n", 0)


def last_proof(entries: Sequence[Entry], stamped: Entry | None) -> Entry:
    """Return the latest instant at which the world that wrote these entries, one at least, is known to have lived.

    Not simply the last entry's: a start is stamped where it happens, so entries are not quite in order of time. Told by
    the monotonic clock of the last boot, as the wall clock may have been set back.
    """
    boot = entries[-1]["boot_id"]
    known = [entry for entry in (*entries, stamped) if entry is not None and entry.get("boot_id") == boot]
    last = max(known, key=lambda entry: int(entry["mono_ns"]))
    return {key: last[key] for key in ("wall_ns", "mono_ns", "boot_id")}


def unfinished(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return `(container-started, pod-created)` entries that nothing after them ended: what ran when the journal stopped."""
    containers: dict[tuple[str, str], Entry] = {}
    pods: dict[str, Entry] = {}
    for entry in entries:
        kind, pod = entry.get("type"), entry.get("pod", "")
        if kind == "pod-created":
            pods[pod] = entry
        elif kind == "pod-removed":
            pods.pop(pod, None)
        elif kind == "container-started":
            containers[pod, entry["container"]] = entry
        elif kind == "container-exited":
            containers.pop((pod, entry["container"]), None)
    return list(containers.values()), list(pods.values())
