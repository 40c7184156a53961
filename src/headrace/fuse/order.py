"""How to run one client, as a value: whoever knows datasets renders it, whoever has a place to run it executes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class MountOrder:
    """One client's container, without the place it runs in.

    Args:
        name: what is mounted, for messages and logs, such as `vision/digits`.
        argv: the client, staying in the foreground, mounting on `target_path`.
        env: its environment; PATH is completed so that the stand-in for fusermount3 comes first.
        files: absolute path in the client's container -> content; secrets are here and nowhere else.
        target_path: where the client mounts. Its parent is the data directory that the broker mounts in.
        file_system_type: what follows `fuse.` in mountinfo; empty leaves it to the client.
        read_only: the mount is read-only whatever the client asks.
        options: mount options of volume and claim, for messages; the client has them in its files or arguments.
        cache_directories: absolute paths in the client's container that must be writable and outlive a restart.
    """

    name: str
    argv: tuple[str, ...]
    target_path: str
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    file_system_type: str = ""
    read_only: bool = False
    options: tuple[str, ...] = ()
    cache_directories: tuple[str, ...] = ()
