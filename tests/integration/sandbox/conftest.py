from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.sandbox.testing import RunningWorld, missing_features, running_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RunningWorld]:
    """A world with one pod, `p`."""
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACES, CONTAINERS ARE NOT TESTED: {why}")
    with running_world(tmp_path) as running:
        running.client.call("pod.create", pod="p", hostname="host-of-p")
        yield running


@pytest.fixture
def plain_world(tmp_path: Path) -> Iterator[RunningWorld]:
    """A world that may make no user namespaces, with a pod `p`."""
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACE TO FORBID ANOTHER IN: {why}")
    with running_world(tmp_path, without_namespaces=True) as running:
        running.client.call("pod.create", pod="p")
        yield running
