"""The loop: timers in order, children, and callbacks that fail without stopping it."""

import os
import signal
from collections.abc import Iterator

import pytest

from headrace.sandbox import loop as loops
from headrace.sandbox.loop import Loop, exit_code


@pytest.fixture
def loop() -> Iterator[Loop]:
    handler = signal.getsignal(signal.SIGCHLD)
    made = Loop()
    yield made
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, handler)
    made.close()


def test_timers_run_in_order_once_and_unless_cancelled(loop: Loop) -> None:
    seen: list[str] = []
    loop.later(0.002, loop.stop)
    loop.later(0.001, lambda: seen.append("second"))
    loop.later(0, lambda: seen.append("first"))
    loop.later(0, lambda: seen.append("never")).cancel()
    loop.run()
    assert seen == ["first", "second"]


def test_a_callback_that_raises_is_reported_and_the_loop_goes_on(
    loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError("broken callback")

    loop.later(0, fail)
    loop.later(0.001, loop.stop)
    loop.run()
    assert "ValueError: broken callback" in capsys.readouterr().err


def test_readable_and_forgotten_in_one_round(loop: Loop) -> None:
    """Two are readable; the first to be called forgets the other, which then must not be called."""
    pipes = [os.pipe(), os.pipe()]
    seen: list[int] = []

    def take(number: int) -> None:
        seen.append(number)
        for fd, _ in pipes:
            loop.forget(fd)
        loop.stop()

    for number, (fd, end) in enumerate(pipes):
        os.write(end, b"x")
        loop.on_readable(fd, lambda number=number: take(number))  # type: ignore[misc]
    loop.run()
    assert len(seen) == 1
    for pair in pipes:
        for fd in pair:
            os.close(fd)


def test_children_are_waited_for(loop: Loop) -> None:
    statuses: list[tuple[int, int]] = []

    def ended(status: int) -> None:
        statuses.append(exit_code(status))
        loop.stop()

    loop.on_exit(loops.fork(lambda: 7), ended)
    loop.run()
    assert statuses == [(7, 0)]


def test_a_child_holds_only_what_it_was_given(loop: Loop) -> None:
    keep, end = os.pipe()
    result: list[int] = []

    def child() -> int:
        listing = 3  # the lowest number free
        return int({int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, listing} == {end})

    def ended(status: int) -> None:
        result.append(exit_code(status)[0])
        loop.stop()

    loop.on_exit(loops.fork(child, (end,)), ended)
    loop.run()
    assert result == [1]
    os.close(keep)
    os.close(end)


def test_exit_codes_are_a_shells() -> None:
    assert exit_code(3 << 8) == (3, 0)
    assert exit_code(9) == (137, 9)
