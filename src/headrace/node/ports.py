"""Connections to a pod's ports, and carrying bytes between one and a client, whatever the client speaks.

A pod shares the machine's network, so a port is reached only where its world proves that nobody but the pod answers
(`sandbox/listening.py`): the pod's own address first, then 127.0.0.1 and ::1 for programs that listen there only.
Source of the sentences: `k8s.io/cri-streaming/pkg/streaming/portforward`, containerd `sandbox_portforward_linux.go`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

import anyio
from anyio.abc import SocketStream

from headrace.errors import HeadraceError, Unavailable
from headrace.node.world import World

READ_BYTES = 32 * 1024
_CONNECT_S = 10.0
_LAST_WORDS_S = 1.0
"""How long a client may go on sending to a pod that has said everything (containerd)."""
_LOOPBACK = ("127.0.0.1", "::1")


class Client(Protocol):
    """The client's side of one connection."""

    async def send(self, data: bytes) -> None:
        """Send bytes of the pod; what cannot be delivered any more is dropped."""
        ...

    async def end(self) -> None:
        """Tell that the pod will send nothing more."""
        ...

    async def receive(self) -> bytes:
        """Return the next bytes, empty at the end of what the client sends."""
        ...


class PodPorts(NamedTuple):
    """One pod's ports.

    Args:
        address: the pod's.
        until_gone: returns when the pod has ended.
    """

    world: World
    namespace: str
    name: str
    uid: str
    address: str
    until_gone: Callable[[], Awaitable[None]]

    @asynccontextmanager
    async def connect(self, port: int) -> AsyncIterator[SocketStream]:
        """Connect to a port of the pod; raises Unavailable when nothing of it listens there."""
        answer = await self.world.request(
            "pod.listening", pod=self.uid, port=port, addresses=[self.address, *_LOOPBACK]
        )
        if not answer["address"]:
            raise self._refused(port, self.address, "connection refused", is_foreign=bool(answer["foreign"]))
        try:
            with anyio.fail_after(_CONNECT_S):
                stream = await anyio.connect_tcp(str(answer["address"]), port)
        except (OSError, TimeoutError) as error:
            raise self._refused(port, answer["address"], _why(error)) from error
        async with stream:
            yield stream

    def failure(self, port: int, error: HeadraceError) -> str:
        """Return what a client reads of a connection that failed."""
        return f"error forwarding port {port} to pod {self.name}, uid {self.uid}: {error}"

    def _refused(self, port: int, address: str, why: str, *, is_foreign: bool = False) -> Unavailable:
        inside = f'inside namespace "{self.namespace}/{self.name}"'
        target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        sentence = f"failed to connect to localhost:{port} {inside}, dial tcp {target}: connect: {why}"
        if is_foreign:
            sentence += " (a process outside the pod listens at this port of the machine, and is not forwarded to)"
        return Unavailable(sentence)


async def carry(pod: SocketStream, client: Client) -> None:
    """Carry bytes both ways until the pod has ended its side; the client's end is passed on, and the pod may go on."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_towards_pod, pod, client)
        try:
            while True:
                await client.send(await pod.receive(READ_BYTES))
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            await client.end()
        tasks.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS_S


async def _towards_pod(pod: SocketStream, client: Client) -> None:
    try:
        while data := await client.receive():
            await pod.send(data)
        await pod.send_eof()
    except (anyio.BrokenResourceError, OSError):
        while await client.receive():  # the pod takes no more; others of the same client must not wait for it
            continue


def _why(error: OSError | TimeoutError) -> str:
    """Return the system's own word, as Go prints it; anyio hides it one or more causes deep."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno).lower()
        cause = cause.__cause__ or cause.__context__
    return "connection timed out" if isinstance(error, TimeoutError) else str(error)
