"""Logs must not be able to end the process that writes them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from headrace.telemetry import Expendable


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 closing it fails, as it should here
    with pytest.raises(OSError, match="No space"):
        print("a line", file=full, flush=True)
    print("a line", file=Expendable(full), flush=True)
    with contextlib.suppress(OSError):
        full.close()


def test_lines_arrive_as_they_are(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as file:
        print("a line", file=Expendable(file), flush=True)
        assert (tmp_path / "log").read_text() == "a line\n"
