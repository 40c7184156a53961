"""What all tests share: hypothesis keeps nothing on disk, a whole installation that must leave nothing behind, and
the choice of a real Kubernetes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings
from tests.installation import Installation, installed
from tests.interruption import interruptible
from tests.kubernetes.fixtures import bare_kubernetes, busybox, kubernetes, kubernetes_node, own_kubernetes
from tests.workers import Controller, Worker

__all__ = ["bare_kubernetes", "busybox", "kubernetes", "kubernetes_node", "own_kubernetes"]

settings.register_profile("headrace", database=None, deadline=None)
settings.load_profile("headrace")


@pytest.fixture
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("i")) as made:
        yield made


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in a shell's background it would hand that on to all programs that tests interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    ends = ExitStack()
    ends.enter_context(interruptible())
    config.add_cleanup(ends.close)
    config.pluginmanager.register(Worker() if hasattr(config, "workerinput") else Controller())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kubernetes",
        action="store_true",
        help="run the contract suite and tests/kubernetes on the cluster of KUBECONFIG, else on one made for the run",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--kubernetes`, leave out what is marked as being about the embedded engine alone."""
    if not config.getoption("kubernetes"):
        return
    embedded = [item for item in items if item.get_closest_marker("embedded")]
    config.hook.pytest_deselected(items=embedded)
    items[:] = [item for item in items if item not in embedded]
