"""The line between one process of ours and the API server, on which a test may stop the process at a chosen request.

Requests pass through unchanged. At the one that was asked for, before it is passed on or when it has been carried out and
its answer is on the way, something is called that ends or stops the process: an instant that no clock could hit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.abc import ByteStream, SocketStream, TaskStatus
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.streams.buffered import BufferedByteReceiveStream
from tests.kubernetes.access import Access

_LONGEST_HEAD_BYTES = 65536


@dataclass(frozen=True)
class Instant:
    """The `count`-th request of a method whose path and body match; patterns are searched for.

    Args:
        when: `before` it is passed on, which it never is; `after` it was carried out, whose answer then arrives with a
            process that only stopped; `late`, passed on when `Line.release` says so.
    """

    when: Literal["before", "after", "late"]
    method: str
    path: str
    body: str = ""
    count: int = 1

    def matches(self, method: str, path: str, body: bytes) -> bool:
        is_there = re.search(self.path, path) and re.search(self.body, body.decode(errors="replace"))
        return method == self.method and bool(is_there)


@dataclass
class _Armed:
    instant: Instant
    act: Callable[[], None]
    left: int = field(default=0)
    is_answer_due: bool = False


class Line:
    """Use as a context; `kubeconfig` leads through it."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._armed: _Armed | None = None
        self._released = anyio.Event()
        self._stack = ExitStack()
        self._portal: BlockingPortal
        self._port = 0

    def __enter__(self) -> Line:
        self._portal = self._stack.enter_context(start_blocking_portal())
        serving, self._port = self._portal.start_task(self._serve)
        self._stack.callback(serving.cancel)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def kubeconfig(self, theirs: Path, path: Path) -> Path:
        """Write what `theirs` says, but for the way there."""
        content = json.loads(theirs.read_text())
        content["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self._port}"}
        path.touch(mode=0o600)
        path.write_text(json.dumps(content))
        return path

    def arm(self, instant: Instant, act: Callable[[], None]) -> None:
        """Call `act`, in a thread, at an instant that is still to come; once."""
        self._released = anyio.Event()
        self._armed = _Armed(instant, act, instant.count)

    @property
    def is_armed(self) -> bool:
        return self._armed is not None

    def release(self) -> None:
        """Let a request that is late go on to the server."""
        self._portal.call(self._released.set)

    async def _serve(self, *, task_status: TaskStatus[int]) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=128) as listener:
            task_status.started(listener.extra(anyio.abc.SocketAttribute.local_port))
            await listener.serve(self._carry)

    async def _carry(self, client: SocketStream) -> None:
        to = urlsplit(self._access.url)
        assert to.hostname is not None
        async with (
            client,
            await anyio.connect_tcp(
                to.hostname, to.port or 443, ssl_context=self._access.trust, tls_standard_compatible=False
            ) as server,
        ):
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._bring_answers, server, client, tasks.cancel_scope)
                    await self._bring_requests(client, server)
                    tasks.cancel_scope.cancel()
            except* (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                pass  # either side has gone

    async def _bring_requests(self, client: ByteStream, server: ByteStream) -> None:
        incoming = BufferedByteReceiveStream(client)
        while True:
            head = await incoming.receive_until(b"\r\n\r\n", _LONGEST_HEAD_BYTES)
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            body = await incoming.receive_exactly(int(length[1])) if length and int(length[1]) else b""
            if await self._may_pass(head, body):
                await server.send(head + b"\r\n\r\n" + body)

    async def _may_pass(self, head: bytes, body: bytes) -> bool:
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        armed = self._armed
        if armed is None or armed.is_answer_due or not armed.instant.matches(method, path, body):
            return True
        armed.left -= 1
        if armed.left:
            return True
        if armed.instant.when == "after":
            armed.is_answer_due = True
            return True
        await self._act(armed)
        if armed.instant.when == "late":
            await self._released.wait()
            return True
        return False

    async def _bring_answers(self, server: ByteStream, client: ByteStream, ended: anyio.CancelScope) -> None:
        async for chunk in server:
            armed = self._armed
            if armed is not None and armed.is_answer_due:
                await self._act(armed)
            await client.send(chunk)
        ended.cancel()

    async def _act(self, armed: _Armed) -> None:
        self._armed = None
        await anyio.to_thread.run_sync(armed.act)
