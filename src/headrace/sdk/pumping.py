"""Streams made by a task of their own: what was made before a failure is read before the failure is raised."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from headrace.errors import HeadraceError

T = TypeVar("T")


class Items(Generic[T]):
    """An iterator whose items may be taken from any task, unlike a generator's, one at a time."""

    def __init__(self, receive: MemoryObjectReceiveStream[T]) -> None:
        self._receive = receive
        self.failure: HeadraceError | None = None

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            if self.failure is not None:
                raise self.failure from None
            raise StopAsyncIteration from None


@asynccontextmanager
async def pumped(
    produce: Callable[[MemoryObjectSendStream[T]], Awaitable[None]], *, buffered: int = 64
) -> AsyncIterator[Items[T]]:
    """Yield what `produce` sends while it runs; it is cancelled when the caller leaves first.

    A Headrace error of `produce` is raised by the iterator, behind the items sent before it.
    """
    send, receive = anyio.create_memory_object_stream[T](buffered)
    items = Items(receive)

    async def run() -> None:
        async with send:
            try:
                with single_error():
                    await produce(send)
            except HeadraceError as error:
                items.failure = error

    with single_error():
        async with anyio.create_task_group() as group, receive:
            group.start_soon(run)
            yield items
            group.cancel_scope.cancel()


@contextmanager
def single_error() -> Iterator[None]:
    """Raise the first error of a task group instead of the group, so that callers can catch it by its type."""
    try:
        yield
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
