"""What the driver keeps on disk of one volume: enough to go on after `kill -9`, gone when the volume is unstaged.

    volume.json     what is mounted and how its client is run (0600)
    files/          the client's files, secrets among them (0700), bound one by one at their places
    data/           a small tmpfs of the world; the client's mounts are at data/ds
    sockets/        the broker's socket for this volume and the stand-in's `bin`
    cache/          directories that the client may write and finds again after a restart
    client.log      what the client writes, in the CRI's format

A user without root cannot mount a file system that lives in memory for the agent as well as the world, so secrets are
on the disk of the state directory, readable by its owner only, for as long as the volume is staged.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.fuse.order import MountOrder

_RECORD = "volume.json"
_LOG_TAIL_BYTES = 16 * 1024
_MOST_LINES = 4
_LONGEST_QUOTE = 700
_LISTS = ("argv", "options", "cache_directories")
_TROUBLE = ("FATAL", "CRITICAL", "ERROR", "rror:", "Traceback")


@dataclass(kw_only=True)
class Record:
    """What is known of a staged volume.

    Args:
        world: when the world that runs the client was started; another world knows nothing of it.
        attempt: number of the client's present start.
        order: how the client is run, without the content of its files; None until it was started once.
        file_names: path in the client's container -> name beneath `files/`.
        targets: where the volume is published.
    """

    volume_id: str
    read_only: bool
    world: int = 0
    attempt: int = -1
    order: dict[str, Any] | None = None
    file_names: dict[str, str] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)


class VolumeFiles:
    """The directory of one volume."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.data = os.path.join(directory, "data")
        self.mount = os.path.join(self.data, "ds")
        self.sockets = os.path.join(directory, "sockets")
        self.log = os.path.join(directory, "client.log")

    def make(self) -> None:
        """Make the directories. Idempotent."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        for name in ("data", "sockets", "files", "cache"):
            os.makedirs(os.path.join(self.directory, name), mode=0o700 if name == "files" else 0o755, exist_ok=True)

    def load(self) -> Record | None:
        """Return the record, None when there is none that can be read."""
        try:
            with open(os.path.join(self.directory, _RECORD), encoding="utf-8") as file:
                return Record(**json.load(file))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, record: Record) -> None:
        """Write the record, whole or not at all."""
        path = os.path.join(self.directory, _RECORD)
        fd = os.open(f"{path}.new", os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(record), file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.new", path)

    def write_files(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Write a client's files anew; return path in its container -> name beneath `files/`."""
        place = os.path.join(self.directory, "files")
        shutil.rmtree(place)
        os.mkdir(place, 0o700)
        names = {}
        for number, (path, content) in enumerate(sorted(files.items())):
            names[path] = str(number)
            fd = os.open(os.path.join(place, str(number)), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(content)
        return names

    def file(self, name: str) -> str:
        return os.path.join(self.directory, "files", name)

    def cache(self, number: int) -> str:
        """Return a writable directory of the client, made if missing."""
        path = os.path.join(self.directory, "cache", str(number))
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def remove(self) -> None:
        """Delete everything. Nothing may be mounted here any more. Idempotent."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def last_words(self) -> str:
        """Return the end of the client's log, the lines that speak of trouble rather than others."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        lines = [line.split(" ", 3)[-1].strip() for line in text.splitlines()]
        lines = list(dict.fromkeys(line for line in lines if line))
        telling = [line for line in lines if any(word in line for word in _TROUBLE)] or lines
        return " | ".join(telling[-_MOST_LINES:])[-_LONGEST_QUOTE:]


def order_to_json(order: MountOrder) -> dict[str, Any]:
    """Return an order without the content of its files."""
    lists = {key: list(getattr(order, key)) for key in _LISTS}
    return {**dataclasses.asdict(order), **lists, "env": dict(order.env), "files": {}}


def order_from_json(value: Mapping[str, Any]) -> MountOrder:
    """Return the order that `order_to_json` was given, without its files."""
    return MountOrder(**{**value, **{key: tuple(value[key]) for key in _LISTS}})
