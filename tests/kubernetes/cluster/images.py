"""Container images made on this machine: Docker archives, which any containerd imports. No registry is asked."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

PAUSE = "headrace.test/pause:1"
BUSYBOX = "headrace.test/busybox:1"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
APPLETS = ("sh", "cat", "echo", "env", "false", "head", "id", "kill", "ls", "mkdir", "mount", "nc", "printf", "ps", "rm",
           "seq", "sleep", "tail", "test", "touch", "true", "umount", "wget")  # fmt: skip


def pause(directory: Path, programs: Path) -> Path:
    """Write the image of the first process of every pod."""
    return archive(directory, PAUSE, {"pause": programs / "pause"}, command=["/pause"])


def busybox(directory: Path, programs: Path) -> Path:
    """Write an image with a shell and the usual small programs."""
    links = {f"bin/{applet}": "busybox" for applet in APPLETS}
    passwd = b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
    files: dict[str, Path | bytes] = {"bin/busybox": programs / "busybox", "etc/passwd": passwd}
    return archive(directory, BUSYBOX, files, links=links, command=["/bin/sh"])


def archive(
    directory: Path,
    name: str,
    files: Mapping[str, Path | bytes],
    *,
    links: Mapping[str, str] | None = None,
    command: Sequence[str],
) -> Path:
    """Write a Docker archive of one layer, and return it.

    Args:
        name: what pods call the image, tag included.
        files: by their path in the image, without the leading `/`; all are executable.
        links: symbolic ones, by their path.
        command: what a container runs that names no command of its own.
    """
    layer = _layer(files, links or {})
    config = json.dumps(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    path = directory / f"{name.split('/')[-1].replace(':', '-')}.tar"
    parts = [("manifest.json", manifest), ("config.json", config), ("layer.tar", layer)]
    path.write_bytes(_tar((_entry(where), content) for where, content in parts))
    return path


def _layer(files: Mapping[str, Path | bytes], links: Mapping[str, str]) -> bytes:
    parents = {str(parent) for path in (*files, *links) for parent in Path(path).parents} - {"."}
    entries = [(_entry(where, type=tarfile.DIRTYPE), b"") for where in sorted(parents)]
    entries.append((_entry("tmp", type=tarfile.DIRTYPE, mode=0o1777), b""))
    for where, source in files.items():
        entries.append((_entry(where), source if isinstance(source, bytes) else source.read_bytes()))
    for where, target in links.items():
        entries.append((_entry(where, type=tarfile.SYMTYPE, linkname=target), b""))
    return _tar(entries)


def _entry(where: str, *, type: bytes = tarfile.REGTYPE, mode: int = 0o755, linkname: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(where)
    entry.type, entry.mode, entry.linkname = type, mode, linkname
    return entry


def _tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()
