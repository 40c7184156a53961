"""What a container of an image runs: the image's own words where the pod says nothing. Pure.

Source: Kubernetes, "Define a Command and Arguments for a Container"; OCI image specification, `config.md`.
"""

from __future__ import annotations

import posixpath
import signal
from collections.abc import Sequence

from headrace.node.images.manifest import ImageConfig


def argv(config: ImageConfig, command: Sequence[str], args: Sequence[str]) -> list[str]:
    """Return the words: `command` replaces the image's entrypoint and its arguments, `args` only its arguments."""
    if command:
        return [*command, *args]
    return [*config.entrypoint, *(args or config.cmd)]


def environment(config: ImageConfig, home: str) -> dict[str, str]:
    """Return the image's variables, and HOME as runc sets it where the image does not."""
    said = dict(part.partition("=")[::2] for part in config.env if not part.startswith("="))
    return {"HOME": home, **said}


def working_directory(config: ImageConfig) -> str:
    """Return the image's working directory; relative ones are below `/`."""
    return _absolute(config.working_dir)


def volumes(config: ImageConfig) -> list[str]:
    """Return the absolute paths that the image calls volumes."""
    return [path for path in dict.fromkeys(map(_absolute, config.volumes)) if path != "/"]


def _absolute(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def stop_signal(text: str) -> int:
    """Return the number of `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`; 0 where it is none."""
    name, plus, more = text.strip().upper().partition("+")
    known = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", 0)
    number = int(name if name.isdigit() else known)
    if plus and more.isdigit():
        number += int(more)
    return number if 0 < number < signal.NSIG else 0
