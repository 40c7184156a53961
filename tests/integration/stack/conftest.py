"""Headrace as a whole, one installation a module, on real storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.installation import installed
from tests.integration.stack.stack import Stack, require_fuse, stack_of


@pytest.fixture(scope="session")
def fuse() -> None:
    require_fuse()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation that is up, shared by a module's tests, which keep to their own namespaces or names."""
    with installed(tmp_path_factory.mktemp("i")) as installation:
        installation.up()
        with stack_of(installation) as stack:
            yield stack
