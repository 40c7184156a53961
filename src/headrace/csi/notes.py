"""What the driver of a real node keeps on disk of its shared mounts: where each is published, for whoever comes after
`kill -9`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from headrace.csi.asking import Wanted
from headrace.spec.kind import Ref


@dataclass(kw_only=True)
class MountNote:
    """One mount that this node asks for.

    Args:
        targets: pods' places -> the volume that is published there.
    """

    namespace: str
    dataset: str
    read_only: bool
    targets: dict[str, str] = field(default_factory=dict)

    @property
    def wanted(self) -> Wanted:
        return Wanted(dataset=Ref(self.namespace, self.dataset), read_only=self.read_only)


class MountNotes:
    """The notes in `directory`, one file a mount."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def load(self, name: str) -> MountNote | None:
        """Return a note, None when there is none that can be read."""
        try:
            with open(self._path(name), encoding="utf-8") as file:
                return MountNote(**json.load(file))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, name: str, note: MountNote) -> None:
        """Write a note, whole or not at all."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        path = self._path(name)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(asdict(note), file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.new", path)

    def remove(self, name: str) -> None:
        """Forget a note. Idempotent."""
        with suppress(FileNotFoundError):
            os.unlink(self._path(name))

    def all(self) -> Iterator[tuple[str, MountNote]]:
        """Yield all notes with their names."""
        if not os.path.isdir(self._directory):
            return
        for file in sorted(os.listdir(self._directory)):
            name, _, ending = file.rpartition(".")
            note = self.load(name) if ending == "json" else None
            if note is not None:
                yield name, note

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, f"{name}.json")
