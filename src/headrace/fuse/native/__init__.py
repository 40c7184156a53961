"""The stand-in for fusermount3 and the probe `served` as static programs, for clients' images that have no Python.

The sources travel with the package; whoever packs an image of the volume driver compiles them there, once:

    python -m headrace.fuse.native DIRECTORY

Needs a C compiler that can link statically (on Debian: `apt-get install gcc libc6-dev`). Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

PROGRAMS = ("fusermount3", "served")
_OPTIONS = ("-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror")
_WITHIN_S = 120
_SOURCES = os.path.dirname(__file__)


class CompilerFailed(Exception):
    """There is no C compiler, or it refused; the sentence says which."""


def build(directory: str, *, compiler: str = "cc", defines: Mapping[str, str] | None = None) -> None:
    """Compile the programs into `directory`, made if missing. Replaces older ones whole.

    Args:
        defines: macros of the sources with what they are to be, in C, such as `{"BROKER_SOCKET": '"/run/s"'}`.

    Raises:
        CompilerFailed: with what the compiler said.
    """
    os.makedirs(directory, mode=0o755, exist_ok=True)
    words = [f"-D{name}={value}" for name, value in (defines or {}).items()]
    for program in PROGRAMS:
        source = os.path.join(_SOURCES, f"{program}.c")
        fresh = os.path.join(directory, f"{program}.new")
        argv = [compiler, *_OPTIONS, *words, "-o", fresh, source]
        try:
            done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=_WITHIN_S)
        except (FileNotFoundError, PermissionError) as error:  # the latter where a directory of PATH cannot be read
            raise CompilerFailed(f"There is no C compiler {compiler}. Install gcc and libc6-dev.") from error
        except subprocess.TimeoutExpired as error:
            raise CompilerFailed(f"{compiler} did not end within {_WITHIN_S} s.") from error
        if done.returncode != 0:
            with suppress(FileNotFoundError):
                os.unlink(fresh)
            raise CompilerFailed(f"{program}.c could not be compiled: {done.stderr.strip()[-2000:]}")
        os.chmod(fresh, 0o755)
        os.rename(fresh, os.path.join(directory, program))


def kept(directory: str) -> str:
    """Return a directory beneath `directory` that has the programs of these very sources; compiles them where it has not.

    Raises CompilerFailed.
    """
    digest = hashlib.sha256()
    for name in sorted(os.listdir(_SOURCES)):
        if name.endswith((".c", ".h")):
            with open(os.path.join(_SOURCES, name), "rb") as file:
                digest.update(file.read())
    place = os.path.join(directory, digest.hexdigest()[:12])
    if not all(os.path.exists(os.path.join(place, program)) for program in PROGRAMS):
        build(place)
    return place


def main(arguments: list[str]) -> int:
    """Compile into the one directory named."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m headrace.fuse.native DIRECTORY\n")
        return 2
    try:
        build(arguments[0])
    except CompilerFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
