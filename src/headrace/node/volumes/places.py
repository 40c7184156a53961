"""Where one pod keeps its things on disk, and the note beside each volume that says how to undo it.

    <pods>/<uid>/volumes/<volume>/mount         what containers see (or where the world mounts it)
    <pods>/<uid>/volumes/<volume>/volume.json   present where something outside this directory must be undone
    <pods>/<uid>/logs/<container>/<attempt>.log
    <pods>/<uid>/roots/<container>/<attempt>-<image>    what a container of an OCI image writes outside of its volumes
    <pods>/<uid>/etc-hosts
    <pods>/<uid>/record.json

The notes are written before what they tell is done, so whatever was begun before a crash is found and undone.
"""

from __future__ import annotations

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

    @property
    def roots(self) -> Path:
        return self.root / "roots"

    def container_root(self, container: str, attempt: int, image: str) -> Path:
        return self.roots / container / f"{attempt}-{image.rpartition(':')[2][:12]}"

    def earlier_roots(self, container: str, attempt: int) -> list[Path]:
        """Return the roots of attempts before this one; this one may run already, although nobody has said so yet."""
        found = (self.roots / container).glob("*-*")
        return [path for path in found if int(path.name.partition("-")[0]) < attempt]

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    def volume(self, name: str) -> Path:
        """The directory of one volume."""
        return self.volumes / name

    def mount(self, name: str) -> Path:
        """What containers see of one volume."""
        return self.volume(name) / "mount"

    def make(self) -> None:
        """Make the pod's directory. Idempotent."""
        self.volumes.mkdir(mode=0o700, parents=True, exist_ok=True)

    def make_volume(self, name: str, mode: int = 0o755) -> str:
        """Make one volume's directory and return the path that containers see. Idempotent."""
        mount = self.mount(name)
        if not mount.is_dir():
            mount.mkdir(parents=True, exist_ok=True)
            mount.chmod(mode)
        return str(mount)

    def note(self, name: str, note: Note) -> None:
        """Write down how to undo a volume."""
        write_file(self.volume(name) / "volume.json", msgspec.json.encode(note))

    def forget(self, name: str) -> None:
        """The volume has been undone."""
        note = self.volume(name) / "volume.json"
        _beside(note).unlink(missing_ok=True)
        note.unlink(missing_ok=True)

    def notes(self) -> Iterator[tuple[str, Note]]:
        """Yield what has to be undone, by volume name."""
        for volume in sorted(self.volumes.glob("*")):
            saved = read_file(volume / "volume.json")
            try:
                if saved is not None:
                    yield volume.name, msgspec.json.decode(saved, type=Note)
            except msgspec.DecodeError:
                continue  # cut short by a crash of the machine, which has undone every mount itself


def write_file(path: Path, content: bytes) -> None:
    """Replace a small file whole; `read_file` finds the old content or the new one whatever happens in between.

    Not fsynced: after a machine's crash nothing that it tells of runs any more. Not renamed over the old file either,
    because ext4 then writes the data out at once (auto_da_alloc), which was measured to take 3 ms.
    """
    beside = _beside(path)
    if beside.exists():
        # A write was cut short: the new file counts only where the old one is gone already.
        beside.unlink() if path.exists() else beside.rename(path)
    beside.write_bytes(content)
    path.unlink(missing_ok=True)
    beside.rename(path)


def read_file(path: Path) -> bytes | None:
    """Return what `write_file` wrote last; None when nothing was."""
    for place in (path, _beside(path)):
        try:
            return place.read_bytes()
        except FileNotFoundError:
            continue
    return None


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
