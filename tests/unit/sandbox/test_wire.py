"""Frames: what is sent is what is read, in whatever pieces it comes, and garbage is noticed."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.sandbox import wire

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.dictionaries(st.text(), json_values, max_size=2), max_size=4), st.data())
def test_messages_survive_any_cutting(messages: list[wire.Message], data: st.DataObject) -> None:
    stream = b"".join(map(wire.encode, messages))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))))
    decoder = wire.Decoder()
    read = []
    for begin, end in pairwise([0, *cuts, len(stream)]):
        read += decoder.feed(stream[begin:end])
    assert read == messages
    assert not decoder.is_mid_frame


def test_bytes_that_are_no_text_survive() -> None:
    """Paths and variables may hold any bytes; Python carries them as surrogates."""
    message = {"path": "/tmp/\udcff"}
    assert wire.Decoder().feed(wire.encode(message)) == [message]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x7f\xff\xff\xff",
        b"GET / HTTP/1.1\r\n",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x04null",
        b"\x00\x00\x00\x03{,}",
        b"\x00\x01\x86\xa0" + b"[" * 100_000,
    ],
)
def test_garbage_is_noticed(garbage: bytes) -> None:
    with pytest.raises(wire.BrokenFrame):
        wire.Decoder().feed(garbage)


def test_a_frame_too_long_is_not_sent() -> None:
    with pytest.raises(wire.BrokenFrame, match="longer than"):
        wire.encode({"text": "x" * wire.MAX_FRAME_BYTES})


def test_half_a_frame_is_waited_for() -> None:
    decoder = wire.Decoder()
    assert decoder.feed(wire.encode({"a": 1})[:-1]) == []
    assert decoder.is_mid_frame
