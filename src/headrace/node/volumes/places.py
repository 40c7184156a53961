"""Where one pod keeps its things on disk, and the note beside each volume that says how to undo it.

    <pods>/<uid>/volumes/<volume>/mount         what containers see (or where the world mounts it)
    <pods>/<uid>/volumes/<volume>/volume.json   present where something outside this directory must be undone
    <pods>/<uid>/logs/<container>/<attempt>.log
    <pods>/<uid>/etc-hosts
    <pods>/<uid>/record.json

The notes are written before what they tell is done, so whatever was begun before a crash is found and undone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec


class Note(msgspec.Struct, frozen=True):
    """What has to be undone for one volume. `driver` empty: a tmpfs that the world mounted."""

    driver: str = ""
    volume_id: str = ""
    persistent: bool = False


class PodPlace:
    """The directory of one pod."""

    def __init__(self, pods: Path, uid: str) -> None:
        self.root = pods / uid

    @property
    def hosts(self) -> Path:
        return self.root / "etc-hosts"

    @property
    def record(self) -> Path:
        return self.root / "record.json"

    def log(self, container: str, attempt: int) -> Path:
        return self.root / "logs" / container / f"{attempt}.log"

    def volume(self, name: str) -> Path:
        """The directory of one volume; what containers see is `mount` in it."""
        return self.root / "volumes" / name

    def make(self) -> None:
        """Make the pod's directory. Idempotent."""
        (self.root / "volumes").mkdir(mode=0o700, parents=True, exist_ok=True)

    def make_volume(self, name: str, mode: int = 0o755) -> str:
        """Make one volume's directory and return the path that containers see. Idempotent."""
        mount = self.volume(name) / "mount"
        if not mount.is_dir():
            mount.mkdir(parents=True, exist_ok=True)
            mount.chmod(mode)
        return str(mount)

    def note(self, name: str, note: Note) -> None:
        """Write down how to undo a volume."""
        write_file(self.volume(name) / "volume.json", msgspec.json.encode(note))

    def forget(self, name: str) -> None:
        """The volume has been undone."""
        (self.volume(name) / "volume.json").unlink(missing_ok=True)

    def notes(self) -> Iterator[tuple[str, Note]]:
        """Yield what has to be undone, by volume name."""
        for path in sorted(self.root.glob("volumes/*/volume.json")):
            yield path.parent.name, msgspec.json.decode(path.read_bytes(), type=Note)

    def remove(self) -> None:
        """Remove the whole directory. Mounts made in the world are not followed: they are not in our namespace."""
        shutil.rmtree(self.root, ignore_errors=True)


def write_file(path: Path, content: bytes) -> None:
    """Replace a small file whole. Not fsynced: after a machine's crash nothing that it tells of runs any more."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    os.replace(beside, path)
