"""SPDY/3.1 frames: what the draft and spdystream say, byte for byte, and there and back again."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.node import spdy
from headrace.node.spdy import BrokenFrame, Frame, Reader, Writer

NUMBERS = st.integers(1, 2**31 - 1)
WORDS = st.integers(0, 2**32 - 1)
HEADERS = st.dictionaries(st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True), st.text(max_size=40), max_size=6)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(
        spdy.SynStream,
        NUMBERS,
        HEADERS,
        st.booleans(),
        st.booleans(),
        st.integers(0, 2**31 - 1),
        st.integers(0, 7),
    ),
    st.builds(spdy.SynReply, NUMBERS, HEADERS, st.booleans()),
    st.builds(spdy.Reset, NUMBERS, st.integers(1, 11)),
    st.builds(
        spdy.Settings,
        st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**24 - 1), WORDS), max_size=4).map(tuple),
        st.booleans(),
    ),
    st.builds(spdy.Ping, WORDS),
    st.builds(spdy.GoAway, st.integers(0, 2**31 - 1), WORDS),
    st.builds(spdy.Headers, NUMBERS, HEADERS, st.booleans()),
    st.builds(spdy.WindowUpdate, st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
    st.builds(spdy.Data, NUMBERS, st.binary(max_size=300), st.booleans()),
)


@given(st.lists(FRAMES, max_size=8), st.data())
def test_frames_survive_however_their_bytes_are_cut(frames: list[Frame], data: st.DataObject) -> None:
    writer, reader = Writer(), Reader()
    sent = b"".join(writer.encode(frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=10)))
    found: list[Frame] = []
    for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        found += reader.feed(sent[begin:end])
    assert found == frames


@given(st.binary(max_size=200))
def test_noise_is_no_more_than_a_broken_frame(noise: bytes) -> None:
    try:
        for frame in Reader().feed(noise):
            assert isinstance(frame, Frame)
    except BrokenFrame:
        pass


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (spdy.Data(1, b"abc"), "00000001 00000003 616263"),
        (spdy.Data(5, b"", is_last=True), "00000005 01000000"),
        (spdy.Reset(3, spdy.CANCEL), "80030003 00000008 00000003 00000005"),
        (spdy.Ping(2), "80030006 00000004 00000002"),
        (spdy.GoAway(7), "80030007 00000008 00000007 00000000"),
        (spdy.WindowUpdate(1, 65536), "80030009 00000008 00000001 00010000"),
        (spdy.Settings([(1, 7, 65536)]), "80030004 0000000c 00000001 01000007 00010000"),
    ],
)
def test_bytes_are_those_of_the_draft(frame: Frame, expected: str) -> None:
    assert Writer().encode(frame) == bytes.fromhex(expected)


def test_headers_are_compressed_with_the_drafts_dictionary() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)
    sent = Writer().encode(spdy.SynStream(1, {"streamType": "data"}))
    assert sent[:18] == bytes.fromhex("80030001") + len(sent[8:]).to_bytes(4, "big") + bytes.fromhex(
        "00000001" + "00" * 6
    )
    plain = zlib.decompressobj(zdict=spdy.DICTIONARY).decompress(sent[18:])
    assert plain == b"\0\0\0\1\0\0\0\x0astreamtype\0\0\0\4data"


def syn(block: bytes) -> bytes:
    """A SYN_STREAM with this header block."""
    packer = zlib.compressobj(9, zdict=spdy.DICTIONARY)
    body = b"\0\0\0\1" + bytes(6) + packer.compress(block) + packer.flush(zlib.Z_SYNC_FLUSH)
    return bytes.fromhex("80030001") + len(body).to_bytes(4, "big") + body


def pair(name: bytes, value: bytes) -> bytes:
    return len(name).to_bytes(4, "big") + name + len(value).to_bytes(4, "big") + value


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (bytes.fromhex("80020006 00000004 00000001"), "version 2"),
        (bytes.fromhex("00000000 00000001 61"), "stream 0"),
        (bytes.fromhex("80030003 00000008 00000000 00000001"), "stream 0"),
        (bytes.fromhex("80030003 00000008 00000001 00000000"), "without a reason"),
        (bytes.fromhex("80030006 00000008 00000001 00000000"), "it needs 4"),
        (bytes.fromhex("80030006 01000004 00000001"), "flags 0x1"),
        (bytes.fromhex("80030004 00000004 00000001"), "another number of entries"),
        (bytes.fromhex("80030001 00000003 000000"), "cannot be read"),
        (bytes.fromhex("80030001 00ffffff"), "are allowed"),
        (syn(b"\0\0\0\1" + pair(b"Port", b"80")), "not lower case"),
        (syn(b"\0\0\0\2" + 2 * pair(b"port", b"80")), "twice"),
        (syn(b"\0\0\0\1" + pair(b"", b"80")), "empty"),
        (syn(b"\0\0\0\0" + pair(b"port", b"80")), "longer than its headers"),
        (syn(b"\0\0\0\1\xff\xff\xff\xff"), "beyond its block"),
        (syn(b"\0\0\0\1" + pair(b"a", bytes(2**20))), "headers are longer"),
        (syn(b"\0\0\0\1" + pair(b"a", b"\xff")), "cannot be read"),
    ],
)
def test_what_is_no_frame_is_refused(sent: bytes, why: str) -> None:
    with pytest.raises(BrokenFrame, match=why):
        Reader().feed(sent)


@pytest.mark.parametrize("make", [lambda: bytes.fromhex("8003000a 00000002 0000"), lambda: b""])
def test_unknown_frames_are_passed_over(make: Callable[[], bytes]) -> None:
    assert Reader().feed(make() + Writer().encode(spdy.Ping(1))) == [spdy.Ping(1)]
