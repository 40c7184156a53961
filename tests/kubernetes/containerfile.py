"""The image that the repository's Containerfile makes, by buildah, on a base image of Debian's packages.

No registry is asked, so the name that the Containerfile begins with stands for this machine's own distribution with its
Python. All else in the Containerfile is carried out as it stands there.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.kubernetes.cluster.programs import Missing

ROOT = Path(__file__).parents[2]
_BASE = "docker.io/library/python:3.13-slim"
_TOOLS = ("buildah", "debootstrap")
_CERTIFICATES = Path("/etc/ssl/certs")
_LONGEST_S = 900
_OF_PIP = {"index-url", "extra-index-url", "trusted-host", "proxy", "cert"}


def containerfile_image(directory: Path, name: str) -> Path:
    """Build the image and write it as a Docker archive into a directory.

    Raises Missing where no image can be built.
    """
    if missing := [tool for tool in _TOOLS if not shutil.which(tool)]:
        raise Missing(f"No {' and no '.join(missing)}: the Containerfile is not built. Install {' and '.join(_TOOLS)}.")
    if os.geteuid() != 0:
        raise Missing("Only root can make a base image: the Containerfile is not built.")
    with tempfile.TemporaryDirectory(dir=directory) as place:
        builder = _Builder(Path(place))
        builder.base(_BASE)
        return builder.build(ROOT, name, directory / "headrace.tar")


class _Builder:
    """buildah with a store of its own."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def base(self, name: str) -> None:
        """Make an image of this machine's distribution with a `python` in it."""
        mirror, suite = _source()
        root = self._place / "base"
        packages = "--include=python3,python3-venv,ca-certificates"
        _do("debootstrap", "--variant=minbase", packages, suite, root, mirror)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        container = self._buildah("from", "scratch")
        self._buildah("add", "--quiet", container, root, "/")
        self._buildah("commit", "--quiet", "--rm", container, name)

    def build(self, source: Path, name: str, archive: Path) -> Path:
        """Carry out the Containerfile, with this machine's way to packages, which the image does not keep."""
        settings = self._place / "pip.conf"
        settings.write_text("\n".join(["[global]", *_pip_settings()]) + "\n")
        mounts = [f"--volume={settings}:/etc/pip.conf:ro"]
        if _CERTIFICATES.is_dir():
            mounts.append(f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro")
        ignored = f"--ignorefile={source / '.containerignore'}"
        self._buildah("build", "--isolation=chroot", "--pull=never", ignored, *mounts, f"--tag={name}", source)
        self._buildah("push", "--quiet", name, f"docker-archive:{archive}:{name}")
        return archive

    def _buildah(self, *words: str | Path) -> str:
        stores = [f"--root={self._place / 'store'}", f"--runroot={self._place / 'run'}", "--storage-driver=vfs"]
        return _do("buildah", *stores, *words)


def _do(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_LONGEST_S)
    assert done.returncode == 0, f"{' '.join(map(str, argv))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


def _source() -> tuple[str, str]:
    """Return where this machine has its distribution from, and the distribution's name there."""
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in lines:
        site, release = line.split(maxsplit=1)
        if release == suite:
            return site, suite
    raise Missing(f"apt has no source of {suite or 'this system'}. The Containerfile is not built.")


def _pip_settings() -> list[str]:
    """Return this machine's settings of pip that say where packages are and how to get there."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    settings = (line.partition("=") for line in lines)
    named = {key.rpartition(".")[2]: value.strip("'\"") for key, _, value in settings}
    return [f"{key} = {value}" for key, value in named.items() if key in _OF_PIP]
