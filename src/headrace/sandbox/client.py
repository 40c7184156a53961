"""A blocking client for a world or a supervisor: scripts, probes and tests. Servers and agents have an asynchronous one."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from headrace.sandbox import wire


class Client:
    """One connection. Not for use by several threads.

    Args:
        path: the socket's path.
        timeout_s: the deadline of connecting and of every answer.
    """

    def __init__(self, path: str, *, timeout_s: float = 10.0) -> None:
        self._socket = wire.connect(path, timeout_s)
        self._timeout_s = timeout_s
        self._decoder = wire.Decoder()
        self._answers: dict[int, wire.Message] = {}
        self._events: deque[wire.Message] = deque()
        self._next_id = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, op: str, *, fds: Sequence[int] = (), **fields: Any) -> int:
        """Send a request without waiting and return its id."""
        self._next_id += 1
        frame = wire.encode({"id": self._next_id, "op": op, **fields})
        sent = socket.send_fds(self._socket, [frame], list(fds)) if fds else 0
        self._socket.sendall(frame[sent:])
        return self._next_id

    def answer(self, request_id: int, *, timeout_s: float | None = None) -> wire.Message:
        """Return the answer to a request sent before.

        Raises:
            wire.Refusal: the other side refused, with its code and sentence.
            TimeoutError: no answer by the deadline.
            ConnectionError: the other side went away.
        """
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        while request_id not in self._answers:
            self._read(deadline)
        answer = self._answers.pop(request_id)
        if not answer.get("ok"):
            error = answer.get("error") or {}
            raise wire.Refusal(error.get("code", "Failed"), error.get("message", "refused without a reason"))
        return answer

    def call(
        self, op: str, *, fds: Sequence[int] = (), answer_within_s: float | None = None, **fields: Any
    ) -> wire.Message:
        """Send a request and return its answer; raises as `answer` does."""
        return self.answer(self.send(op, fds=fds, **fields), timeout_s=answer_within_s)

    def events(self, timeout_s: float) -> Iterator[wire.Message]:
        """Yield events as they come; raises TimeoutError when none came for `timeout_s`."""
        while True:
            deadline = time.monotonic() + timeout_s
            while not self._events:
                self._read(deadline)
            yield self._events.popleft()

    def _read(self, deadline: float) -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no answer by the deadline")
        self._socket.settimeout(left_s)
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionResetError("the other side closed the connection")
        for message in self._decoder.feed(data):
            if "event" in message:
                self._events.append(message)
            else:
                self._answers[message["id"]] = message
