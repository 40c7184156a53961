"""What all tests share: hypothesis keeps nothing on disk, and a whole installation that must leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from tests.installation import Installation, installed

settings.register_profile("headrace", database=None, deadline=None)
settings.load_profile("headrace")


@pytest.fixture
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("i")) as made:
        yield made
