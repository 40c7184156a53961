"""What all tests share: hypothesis keeps nothing on disk, and a whole installation that must leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from tests.installation import Installation

settings.register_profile("headrace", database=None, deadline=None)
settings.load_profile("headrace")


@pytest.fixture
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    base = tmp_path_factory.mktemp("i")
    base.chmod(0o755)
    made = Installation(base / "h")
    try:
        yield made
    finally:
        made.run("down", check=False)
        left = made.processes()
        for process in left:
            process.kill()
        assert not left, f"down left {[process.cmdline() for process in left]}"
        assert made.mounts() == []
