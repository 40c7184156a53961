"""The static programs of `headrace.fuse.native`, compiled for tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from headrace.fuse.native import build


def compiled(directory: Path, defines: Mapping[str, str] | None = None) -> Path:
    """Compile into `directory` and return it; skips loudly without a compiler, which CI must have."""
    if shutil.which("cc") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs a C compiler: apt-get install gcc libc6-dev")
        pytest.skip("NO C COMPILER (cc): THE STATIC STAND-IN AND PROBE ARE NOT TESTED; apt-get install gcc libc6-dev")
    build(str(directory), defines=defines)
    return directory


def text(value: object) -> str:
    """Return a C string literal of a path."""
    return f'"{value}"'
