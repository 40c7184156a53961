"""Pods that say and answer what a test has scripted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.lowlevel
from anyio.abc import ByteReceiveStream, ByteSendStream
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from headrace.cluster.protocol import ExecResult

Command = Callable[[Sequence[str], bytes], Awaitable[ExecResult]]
"""`await command(argv, stdin)`: what a container does when something is run in it."""


class _Stdin(ByteSendStream):
    """Keeps what is written until it is closed."""

    def __init__(self) -> None:
        self.content = b""
        self.closed = anyio.Event()

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self.closed.is_set():
            raise anyio.ClosedResourceError
        self.content += item

    async def aclose(self) -> None:
        self.closed.set()


class ScriptedExec:
    """A running interactive command: it runs when stdin is closed, or when its end is waited for."""

    def __init__(self, command: Command, argv: Sequence[str]) -> None:
        self._command = command
        self._argv = argv
        self._stdin = _Stdin()
        self._outputs: list[MemoryObjectSendStream[bytes]] = []
        self._inputs: list[MemoryObjectReceiveStream[bytes]] = []
        self.stdin: ByteSendStream = self._stdin
        self.stdout: ByteReceiveStream = self._output()
        self.stderr: ByteReceiveStream = self._output()
        self.sizes: list[tuple[int, int]] = []
        self._exit_code = 0
        self._ended = anyio.Event()

    def _output(self) -> ByteReceiveStream:
        send, receive = anyio.create_memory_object_stream[bytes](1)
        self._outputs.append(send)
        self._inputs.append(receive)
        return BufferedByteReceiveStream(receive)

    async def run(self) -> None:
        await self._stdin.closed.wait()
        result = await self._command(self._argv, self._stdin.content)
        for output, content in zip(self._outputs, (result.stdout, result.stderr), strict=True):
            if content:
                output.send_nowait(content)
            output.close()
        self._exit_code = result.exit_code
        self._ended.set()

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def wait(self) -> int:
        await self._stdin.aclose()
        await self._ended.wait()
        return self._exit_code

    def close(self) -> None:
        for output in self._outputs:
            output.close()
        for source in self._inputs:
            source.close()
