"""Whose processes are whose, and what they used."""

import os

import pytest

from headrace.sandbox.accounting import WORLD, Counter, Firsts, Owner, Process, owners, parse_stat, used_ns

TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")

# The world is 1; pod p has pid 1 number 10, its container a number 20 in the PID namespace 7; pod q 11 and 30, in 8.
FIRSTS = Firsts(
    {1: WORLD, 10: ("p", ""), 20: ("p", "a"), 11: ("q", ""), 30: ("q", "b")}, {7: ("p", "a"), 8: ("q", "b")}
)


def process(parent: int, own: int = 0, taken: int = 0, namespace: int = 5) -> Process:
    return Process(parent, namespace, own, taken)


def test_a_stat_is_read_whatever_the_command_is_called() -> None:
    text = b"31 (a) R 1 (b) S 7 31 31 0 -1 4194560 1 2 3 4 100 20 3000 400 20 0 1 0 12345 0 0\n"
    assert parse_stat(text, 9) == Process(parent=7, namespace=9, own_ns=120 * TICK_NS, taken_ns=3400 * TICK_NS)


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ({21: process(20, namespace=7)}, ("p", "a")),
        ({22: process(21, namespace=7), 21: process(20, namespace=7)}, ("p", "a")),  # beneath, listed first
        ({23: process(40, namespace=7), 40: process(1)}, ("p", "a")),  # sent in from the world by exec
        ({24: process(21, namespace=99), 21: process(20, namespace=7)}, ("p", "a")),  # in a namespace of its own
        ({25: process(21), 21: process(20)}, ("p", "a")),  # where no namespaces are seen
        ({40: process(1)}, WORLD),  # a helper, a service
        ({12: process(10)}, ("p", "")),
        ({50: process(0, namespace=3)}, None),  # somebody who entered from the machine
        ({51: process(52), 52: process(51)}, None),  # read while ids were used again
        ({53: process(4711)}, None),
    ],
)
def test_to_whom_a_process_belongs(added: dict[int, Process], expected: Owner | None) -> None:
    tree = {1: process(0), 10: process(1), 20: process(10, namespace=7), **added}
    assert owners(tree, FIRSTS).get(next(iter(added))) == expected


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({21: process(20, 100, 30, 7)}, {("p", "a"): 130, ("p", ""): 130, WORLD: 130}, id="a program"),
        pytest.param(
            {20: process(10, 2, 40, 7)}, {("p", "a"): 40, ("p", ""): 42, WORLD: 42}, id="orphans ended, and our log"
        ),
        pytest.param({10: process(1, 1, 500)}, {("p", ""): 501, WORLD: 501}, id="containers of the pod have ended"),
        pytest.param({1: process(0, 9, 9000)}, {WORLD: 9009}, id="pods have ended"),
        pytest.param(
            {21: process(20, 1, 0, 7), 31: process(30, 2, 0, 8), 40: process(1, 4, 0)},
            {("p", "a"): 1, ("p", ""): 1, ("q", "b"): 2, ("q", ""): 2, WORLD: 7},
            id="two pods and a service",
        ),
    ],
)
def test_what_was_used(processes: dict[int, Process], expected: dict[Owner, int]) -> None:
    tree = {1: process(0), 10: process(1), 11: process(1), 20: process(10), 30: process(11), **processes}
    found = used_ns(tree, owners(tree, FIRSTS), FIRSTS)
    assert {owner: used for owner, used in found.items() if used} == expected


def test_a_counter_never_falls_and_keeps_no_error() -> None:
    counter = Counter()
    assert [counter.tell(measured) for measured in (10, 30, 25, 35)] == [10, 30, 30, 35]
    counter.elsewhere_ns += 2
    assert counter.tell(35) == 37
