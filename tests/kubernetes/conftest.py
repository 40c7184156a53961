"""What only a real Kubernetes can be asked; collected with `--kubernetes`."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.getoption("kubernetes") else True
