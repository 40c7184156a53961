"""How worlds and supervisors are spoken to: frames of JSON on a Unix stream socket, descriptors alongside.

A frame is a 4-byte big-endian length and that many bytes of UTF-8 JSON (one object). Descriptors travel by SCM_RIGHTS
attached to the first bytes of the frame they belong to. Both ends use this file; the asynchronous client is elsewhere.

    request   {"id": 7, "op": "pod.create", …}
    answer    {"id": 7, "ok": true, …}   or   {"id": 7, "ok": false, "error": {"code": "NotFound", "message": "…"}}
    event     {"event": "journal", …}
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

Message = dict[str, Any]

MAX_FRAME_BYTES = 8 * 1024 * 1024
MAX_FDS = 16
_HEADER_BYTES = 4
_MAX_PATH_BYTES = 107  # sun_path


class BrokenFrame(Exception):
    """The other side sent something that is no frame; the connection is of no more use."""


class Refusal(Exception):
    """An order that cannot be carried out.

    Args:
        code: stable CamelCase identifier: `Invalid`, `NotFound`, `Conflict`, `Unsupported`, `Timeout`, `Failed`, `StartFailed`.
        message: one sentence: what, why, what to try.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def to_json(self) -> Message:
        return {"code": self.code, "message": self.message}


def encode(message: Message) -> bytes:
    """Return the frame of `message`; raises BrokenFrame where it would be longer than `MAX_FRAME_BYTES`."""
    body = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")
    if len(body) > MAX_FRAME_BYTES:
        raise BrokenFrame(f"a frame of {len(body)} bytes is longer than the {MAX_FRAME_BYTES} allowed")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class Decoder:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Add bytes and return the messages that are complete now; raises BrokenFrame."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEADER_BYTES:
            length = int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise BrokenFrame(f"a frame claims {length} bytes; {MAX_FRAME_BYTES} are allowed")
            if len(self._buffer) < _HEADER_BYTES + length:
                break
            messages.append(decode_body(bytes(self._buffer[_HEADER_BYTES : _HEADER_BYTES + length])))
            del self._buffer[: _HEADER_BYTES + length]
        return messages

    @property
    def is_mid_frame(self) -> bool:
        """Whether bytes of an unfinished frame are held."""
        return bool(self._buffer)


def decode_body(body: bytes) -> Message:
    """Return the object a frame's body holds; raises BrokenFrame for anything else."""
    try:
        message = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise BrokenFrame(f"a frame holds no JSON: {error}") from error
    if not isinstance(message, dict):
        raise BrokenFrame(f"a frame holds a {type(message).__name__}, not an object")
    return message


def _in_directory(path: str) -> tuple[str, int]:
    """Return an address of any length for `path` and the descriptor to close afterwards (-1 for none)."""
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        return path, -1
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{directory}/{os.path.basename(path)}", directory


def listen(path: str, backlog: int = 64) -> socket.socket:
    """Return a non-blocking listening socket at `path`, mode 0600 by then; a stale socket file there is replaced.

    Only who holds a lock on the place may call this: it does not ask whether another process listens.
    """
    address, directory = _in_directory(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        if os.path.lexists(path):
            os.unlink(path)
        server.bind(address)
        server.listen(backlog)
    except BaseException:
        server.close()
        raise
    finally:
        os.umask(before)
        if directory >= 0:
            os.close(directory)
    server.setblocking(False)
    return server


def connect(path: str, timeout_s: float = 5.0) -> socket.socket:
    """Return a blocking socket connected to `path`, of any length; raises OSError."""
    address, directory = _in_directory(path)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout_s)
    try:
        client.connect(address)
    except BaseException:
        client.close()
        raise
    finally:
        if directory >= 0:
            os.close(directory)
    return client
