"""The driver's image, as whoever packs it would: Python, what `headrace[kubernetes]` asks for and nothing else, and the
static programs. Taken from this machine's interpreter and environment, because no registry is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from tests.kubernetes.cluster import images
from tests.kubernetes.cluster.programs import node_programs

IMAGE = "headrace.test/headrace:1"
_SHELL = ("sh", "ls", "stat")
_SOURCE = Path(__file__).parents[3] / "src"
_STANDARD = Path(os.__file__).parent
_UNUSED = {"test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages", "__pycache__"}


def driver_image(directory: Path, programs: Path) -> Path:
    """Write the image; `programs` is where the static ones were compiled."""
    places = {file: file for file in _files_of_python()}
    site_packages = _STANDARD / "site-packages"
    places |= {site_packages / name: file for name, file in _packages()}
    places |= {Path("/usr/local/lib/headrace") / file.name: file for file in programs.iterdir()}
    places |= {library: library for library in libraries(places.values())}
    files: dict[str, Path | bytes] = {str(place).lstrip("/"): file for place, file in places.items()}
    files["bin/busybox"] = node_programs() / "bin" / "busybox"  # Python's image has Debian's shell; probes use it
    links = {"bin/python": os.path.realpath(sys.executable), **{f"bin/{name}": "busybox" for name in _SHELL}}
    return images.archive(directory, IMAGE, files, links=links, command=["python"])


def _files_of_python() -> Iterator[Path]:
    yield Path(os.path.realpath(sys.executable))
    for file in _STANDARD.rglob("*"):
        if file.is_file() and not _UNUSED & set(file.relative_to(_STANDARD).parts):
            yield file


def _packages() -> Iterator[tuple[str, Path]]:
    """Yield the files of all that `headrace[kubernetes]` needs, by their place in site-packages."""
    for file in _SOURCE.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            yield str(file.relative_to(_SOURCE)), file
    for found in _needed("headrace", ("kubernetes",)):
        for listed in found.files or ():
            file = Path(str(listed.locate()))
            if ".." not in listed.parts and "__pycache__" not in listed.parts and file.is_file():
                yield str(listed), file


def _needed(name: str, extras: tuple[str, ...]) -> list[Distribution]:
    """Return the distributions that one needs, and those need, without itself."""
    found: dict[str, Distribution] = {}
    left = [(name, extras)]
    seen = set()
    while left:
        wanted = left.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        made = distribution(wanted[0])
        found[made.metadata["Name"]] = made
        for line in made.requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*wanted[1], "")):
                left.append((requirement.name, tuple(sorted(requirement.extras))))
    return [made for key, made in found.items() if key != name]


def libraries(files: object) -> set[Path]:
    """Return the shared libraries that programs and extension modules among `files` are linked with."""
    linked = [str(file) for file in files if ".so" in file.name or os.access(file, os.X_OK)]  # type: ignore[attr-defined]
    said = subprocess.run(["ldd", *linked], capture_output=True, text=True).stdout
    words = {word for line in said.splitlines() if line.startswith("\t") for word in line.split()}
    return {Path(word) for word in words if word.startswith("/") and Path(word).is_file()}
