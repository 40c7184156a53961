"""SPDY/3.1 frames: bytes in, frames out, and back. Pure; what a connection does with them is `streams.py`'s.

Kubernetes' API servers speak it to kubelets, and its clients to forward ports, inside a WebSocket. Credentials and
unidirectional streams are nobody's concern any more; frames of unknown types are passed over, as the draft demands.
Source: SPDY Protocol Draft 3.1, sections 2.2 (framing), 2.6 (control frames), 2.6.10 (header block);
`github.com/moby/spdystream`, which is at the other end of every kubectl.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

VERSION = 3
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, UNSUPPORTED_VERSION, CANCEL, INTERNAL_ERROR = 1, 2, 3, 4, 5, 6
"""Why a stream is reset (2.6.3)."""

_FIN, _UNIDIRECTIONAL = 0x01, 0x02
_CONTROL = 0x80000000
_STREAM = 0x7FFFFFFF
_LENGTH = 0xFFFFFF
_HEADER = struct.Struct(">II")
_WORD = struct.Struct(">I")
_PAIR = struct.Struct(">II")
_LARGEST_CONTROL_FRAME = 64 * 1024
_LARGEST_HEADER_BLOCK = 256 * 1024


class BrokenFrame(Exception):
    """The other side sent something that is no frame; nothing after it can be understood."""


@dataclass(frozen=True)
class SynStream:
    """Opens a stream; `is_last` tells that the opener will send nothing on it."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    is_last: bool = False
    is_unidirectional: bool = False
    associated: int = 0
    priority: int = 0


@dataclass(frozen=True)
class SynReply:
    """Accepts a stream."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    is_last: bool = False


@dataclass(frozen=True)
class Reset:
    """Ends a stream in both directions (RST_STREAM)."""

    stream: int
    status: int


@dataclass(frozen=True)
class Settings:
    """`(flags, id, value)` of each setting; flags have 8 bits and ids 24."""

    entries: Sequence[tuple[int, int, int]] = ()
    clears: bool = False


@dataclass(frozen=True)
class Ping:
    """Sent back as it is by whoever did not begin: clients begin with odd numbers, servers with even ones."""

    id: int


@dataclass(frozen=True)
class GoAway:
    """No more streams are taken; `last` is the last one that was."""

    last: int
    status: int = 0


@dataclass(frozen=True)
class Headers:
    """More headers of an open stream."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    is_last: bool = False


@dataclass(frozen=True)
class WindowUpdate:
    """So many more bytes may be sent on a stream; 0 is the connection."""

    stream: int
    delta: int


@dataclass(frozen=True)
class Data:
    """Bytes of a stream; `is_last` ends the sender's direction."""

    stream: int
    data: bytes
    is_last: bool = False


Frame = SynStream | SynReply | Reset | Settings | Ping | GoAway | Headers | WindowUpdate | Data


_WORDS = (
    "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|allow|"
    "authorization|cache-control|connection|content-base|content-encoding|content-language|content-length|"
    "content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|"
    "if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|"
    "proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|"
    "user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|"
    "keep-alive|origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _sized(text: bytes) -> bytes:
    return _WORD.pack(len(text)) + text


DICTIONARY = b"".join(_sized(word.encode()) for word in _WORDS.split("|")) + _TEXT.encode()
"""With which both sides' header compression begins (2.6.10.1)."""


class Writer:
    """Frames in, bytes out. One a connection: headers are compressed as one stream."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(9, zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        """Return the bytes of a frame; frames must be sent in the order in which they were encoded."""
        if isinstance(frame, Data):
            return _HEADER.pack(frame.stream, _FIN * frame.is_last << 24 | len(frame.data)) + frame.data
        number, flags, body = self._control(frame)
        return _HEADER.pack(_CONTROL | VERSION << 16 | number, flags << 24 | len(body)) + body

    def _control(self, frame: Frame) -> tuple[int, int, bytes]:
        match frame:
            case SynStream():
                flags = _FIN * frame.is_last | _UNIDIRECTIONAL * frame.is_unidirectional
                fixed = _PAIR.pack(frame.stream, frame.associated) + bytes([frame.priority << 5, 0])
                return 1, flags, fixed + self._compressed(frame.headers)
            case SynReply():
                return 2, _FIN * frame.is_last, _WORD.pack(frame.stream) + self._compressed(frame.headers)
            case Reset():
                return 3, 0, _PAIR.pack(frame.stream, frame.status)
            case Settings():
                entries = [_PAIR.pack(flags << 24 | number, value) for flags, number, value in frame.entries]
                return 4, int(frame.clears), _WORD.pack(len(entries)) + b"".join(entries)
            case Ping():
                return 6, 0, _WORD.pack(frame.id)
            case GoAway():
                return 7, 0, _PAIR.pack(frame.last, frame.status)
            case Headers():
                return 8, _FIN * frame.is_last, _WORD.pack(frame.stream) + self._compressed(frame.headers)
            case WindowUpdate():
                return 9, 0, _PAIR.pack(frame.stream, frame.delta)
        raise AssertionError(frame)

    def _compressed(self, headers: Mapping[str, str]) -> bytes:
        pairs = [_sized(name.lower().encode()) + _sized(value.encode()) for name, value in headers.items()]
        block = _WORD.pack(len(pairs)) + b"".join(pairs)
        return self._compressor.compress(block) + self._compressor.flush(zlib.Z_SYNC_FLUSH)


class Reader:
    """Bytes in, frames out. Several values of one header stay one text with `\\0` between them."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._decompressor = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Frame]:
        """Add bytes and return the frames that are complete now; raises BrokenFrame."""
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= _HEADER.size:
            first, second = _HEADER.unpack_from(self._buffer)
            flags, length = second >> 24, second & _LENGTH
            if first & _CONTROL and length > _LARGEST_CONTROL_FRAME:
                raise BrokenFrame(f"a control frame claims {length} bytes; {_LARGEST_CONTROL_FRAME} are allowed")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            body = bytes(memoryview(self._buffer)[_HEADER.size : end])
            del self._buffer[:end]
            frame = self._control(first, flags, body) if first & _CONTROL else _data(first, flags, body)
            if frame is not None:
                frames.append(frame)
        return frames

    def _control(self, first: int, flags: int, body: bytes) -> Frame | None:
        version, number = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise BrokenFrame(f"a frame of SPDY version {version}; {VERSION} is spoken here")
        read = _FIXED.get(number)
        try:
            if read is not None:
                return read(flags, body)
            if number == 1:
                stream, associated = _PAIR.unpack_from(body)
                headers = self._decompressed(body[10:])
                is_last, is_one_way = bool(flags & _FIN), bool(flags & _UNIDIRECTIONAL)
                return SynStream(_stream(stream), headers, is_last, is_one_way, associated & _STREAM, body[8] >> 5)
            if number in {2, 8}:
                make = SynReply if number == 2 else Headers
                stream = _stream(_WORD.unpack_from(body)[0])
                return make(stream, self._decompressed(body[4:]), bool(flags & _FIN))
        except (struct.error, IndexError, UnicodeDecodeError, zlib.error) as error:
            raise BrokenFrame(f"a control frame of type {number} cannot be read: {error}") from error
        return None

    def _decompressed(self, block: bytes) -> dict[str, str]:
        text = self._decompressor.decompress(block, _LARGEST_HEADER_BLOCK)
        if self._decompressor.unconsumed_tail:
            raise BrokenFrame(f"headers are longer than {_LARGEST_HEADER_BLOCK} bytes")
        headers: dict[str, str] = {}
        count, at = _WORD.unpack_from(text)[0], _WORD.size
        for _ in range(count):
            name, at = _text(text, at)
            value, at = _text(text, at)
            if name != name.lower() or name in headers or not name:
                raise BrokenFrame(f"header {name!r} is empty, not lower case, or there twice")
            headers[name] = value
        if at != len(text):
            raise BrokenFrame("a header block is longer than its headers")
        return headers


def _text(block: bytes, at: int) -> tuple[str, int]:
    begin = at + _WORD.size
    end = begin + _WORD.unpack_from(block, at)[0]
    if end > len(block):
        raise BrokenFrame("a header ends beyond its block")
    return block[begin:end].decode(), end


def _stream(number: int) -> int:
    if not number & _STREAM:
        raise BrokenFrame("a frame of stream 0")
    return number & _STREAM


def _data(first: int, flags: int, body: bytes) -> Data:
    return Data(_stream(first), body, bool(flags & _FIN))


def _exactly(body: bytes, size: int, flags: int) -> None:
    if len(body) != size or flags:
        raise BrokenFrame(f"a control frame has {len(body)} bytes and flags {flags:#x}; it needs {size} and none")


def _reset(flags: int, body: bytes) -> Reset:
    _exactly(body, _PAIR.size, flags)
    stream, status = _PAIR.unpack(body)
    if not status:
        raise BrokenFrame("a stream is reset without a reason")
    return Reset(_stream(stream), status)


def _settings(flags: int, body: bytes) -> Settings:
    if len(body) != _WORD.size + _PAIR.size * _WORD.unpack_from(body)[0]:
        raise BrokenFrame("SETTINGS has another number of entries than it says")
    pairs = _PAIR.iter_unpack(body[_WORD.size :])
    return Settings(tuple((key >> 24, key & _LENGTH, value) for key, value in pairs), bool(flags & 1))


def _ping(flags: int, body: bytes) -> Ping:
    _exactly(body, _WORD.size, flags)
    return Ping(_WORD.unpack(body)[0])


def _go_away(flags: int, body: bytes) -> GoAway:
    _exactly(body, _PAIR.size, flags)
    last, status = _PAIR.unpack(body)
    return GoAway(last & _STREAM, status)


def _window_update(flags: int, body: bytes) -> WindowUpdate:
    _exactly(body, _PAIR.size, flags)
    stream, delta = _PAIR.unpack(body)
    return WindowUpdate(stream & _STREAM, delta & _STREAM)


_FIXED: Mapping[int, Callable[[int, bytes], Frame]] = {
    3: _reset,
    4: _settings,
    6: _ping,
    7: _go_away,
    9: _window_update,
}
