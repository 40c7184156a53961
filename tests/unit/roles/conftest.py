from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from headrace.cluster.fake import FakeCluster


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Trio with a clock that jumps to the next deadline when everything waits: hours pass in no time."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
def fake() -> FakeCluster:
    return FakeCluster()
