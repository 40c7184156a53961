"""Headrace as a whole, one installation a module, on real storage."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.installation import installed
from tests.integration.stack.stack import Stack, stack_of

from headrace.sandbox.testing import missing_features


@pytest.fixture(scope="session")
def fuse() -> None:
    """Skip where this machine cannot mount FUSE without privilege; in CI that is an error."""
    why = "; ".join(f"{name}: {missing_features()[name]}" for name in ("userns", "fuse") if name in missing_features())
    if why and os.environ.get("CI") and os.geteuid() == 0:
        pytest.fail(f"CI must be able to mount FUSE: {why}")
    if why:
        pytest.skip(f"NOTHING CAN BE MOUNTED HERE, THE DATA PLANE IS NOT TESTED: {why}")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation that is up, shared by a module's tests, which keep to their own namespaces or names."""
    with installed(tmp_path_factory.mktemp("i")) as installation:
        installation.up()
        with stack_of(installation) as stack:
            yield stack
