"""What `headrace up` decided, kept in the state directory so that every process of it, restarted or not, agrees."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from headrace.errors import EngineFailed
from headrace.settings import Home

SETTINGS = "up.json"
OWN, CLOUD = "own", "cloud"
NODES = (OWN, CLOUD)


class Capacity(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node offers, as Kubernetes quantities; None means what this machine has."""

    cpu: str | None = None
    memory: str | None = None


class UpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One installation.

    `path` is the PATH of its processes, where storage clients are looked for; `mirrors` are registries' mirrors, written
    `PREFIX=URL`.
    """

    port: int
    own: Capacity
    cloud: Capacity
    path: str = ""
    mirrors: tuple[str, ...] = ()

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"


def write(home: Home, settings: UpSettings) -> None:
    """Store the settings atomically."""
    target = home.root / SETTINGS
    temporary = target.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))
    os.replace(temporary, target)


def read(home: Home) -> UpSettings:
    """Return the stored settings; raises EngineFailed when there are none or they cannot be read."""
    path: Path = home.root / SETTINGS
    try:
        return msgspec.json.decode(path.read_bytes(), type=UpSettings)
    except (OSError, msgspec.DecodeError) as error:
        raise EngineFailed(f"{path} cannot be read: {error}.", hint="Start again with: headrace up") from error
