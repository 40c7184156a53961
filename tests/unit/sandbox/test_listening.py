"""Whose connection it would be: read from /proc/net/tcp, decided as the kernel decides."""

import socket

import pytest

from headrace.sandbox.listening import Choice, Listener, answering, choose, parse

POD, LOCAL, OTHER = "127.64.0.2", "127.0.0.1", "127.64.0.3"
ALL, ALL6, LOCAL6 = "0.0.0.0", "::", "::1"


def listener(address: str, inode: int) -> Listener:
    return Listener(socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address), inode)


@pytest.mark.parametrize(
    ("listeners", "own", "chosen"),
    [
        ([], [], Choice("", False)),
        ([(POD, 1)], [1], Choice(POD, False)),
        ([(POD, 1)], [], Choice("", True)),
        ([(ALL, 1)], [1], Choice(POD, False)),
        ([(ALL, 1)], [], Choice("", True)),
        ([(ALL6, 1)], [1], Choice(POD, False)),
        ([(LOCAL, 1)], [1], Choice(LOCAL, False)),
        ([(LOCAL, 1)], [2], Choice("", True)),
        ([(LOCAL6, 1)], [1], Choice(LOCAL6, False)),
        ([(OTHER, 1)], [1], Choice("", False)),
        # Exactly this address comes before all addresses, whoever has it.
        ([(ALL, 1), (POD, 2)], [2], Choice(POD, False)),
        ([(ALL, 1), (POD, 2)], [1], Choice(LOCAL, False)),
        ([(ALL, 1), (LOCAL, 2), (POD, 3)], [1], Choice("", True)),
        # Several sockets share what comes (SO_REUSEPORT), so all of them must be the pod's.
        ([(POD, 1), (POD, 2)], [1, 2], Choice(POD, False)),
        ([(POD, 1), (POD, 2)], [1], Choice("", True)),
        ([(ALL, 1), (ALL6, 2)], [1], Choice("", True)),
        ([(ALL6, 2), (LOCAL, 1)], [1], Choice(LOCAL, False)),
    ],
)
def test_an_address_is_chosen_only_when_nobody_else_could_answer(
    listeners: list[tuple[str, int]], own: list[int], chosen: Choice
) -> None:
    made = [listener(address, inode) for address, inode in listeners]
    assert choose(made, own, [POD, LOCAL, LOCAL6]) == chosen


def test_ipv6_is_not_answered_by_ipv4() -> None:
    assert answering([listener(ALL, 1)], socket.inet_pton(socket.AF_INET6, LOCAL6)) == set()


def test_the_kernels_table_is_read() -> None:
    header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    rest = "00000000:00000000 00:00000000 00000000 65534        0"
    tcp = (
        f"   0: 0200407F:0050 00000000:0000 0A {rest} 11 1 0 100 0\n"
        f"   1: 00000000:0051 00000000:0000 0A {rest} 12 1 0 100 0\n"
        f"   2: 0200407F:0050 0300407F:9C40 01 {rest} 13 1 0 100 0\n"
    )
    assert parse(header + tcp, 80) == [listener(POD, 11)]
    mapped = f"   0: 0000000000000000FFFF00000200407F:0050 {'0' * 32}:0000 0A {rest} 14 1 0 100 0\n"
    loopback = f"   1: 00000000000000000000000001000000:0050 {'0' * 32}:0000 0A {rest} 15 1 0 100 0\n"
    assert parse(header + mapped + loopback, 80) == [listener(POD, 14), listener(LOCAL6, 15)]
