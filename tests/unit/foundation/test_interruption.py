"""Runs of tests and benchmarks that are asked to end."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from tests.interruption import interruptible, uninterrupted

ASKED = signal.SIGHUP
"""Not SIGTERM, which this very run may be sent."""


@pytest.fixture(autouse=True)
def as_at_first() -> Iterator[None]:
    before = signal.signal(ASKED, signal.SIG_DFL)
    yield
    signal.signal(ASKED, before)


def test_it_is_as_ctrl_c() -> None:
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(ASKED)
    assert signal.getsignal(ASKED) is signal.SIG_DFL


def test_taking_down_is_finished_first() -> None:
    done = []

    def take_down() -> None:
        with uninterrupted():
            signal.raise_signal(ASKED)
            done.append(True)

    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            take_down()
    assert done


def test_what_the_run_was_started_to_ignore_it_ignores() -> None:
    signal.signal(ASKED, signal.SIG_IGN)
    with interruptible():
        signal.raise_signal(ASKED)
    assert signal.getsignal(ASKED) is signal.SIG_IGN
