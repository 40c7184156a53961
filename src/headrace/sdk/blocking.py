"""`Client`: `AsyncClient` for programs that do not use async. The same methods, the same errors.

An event loop in a thread of its own carries them out; a `Client` may be used from several threads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.streams.memory import MemoryObjectSendStream

from headrace.cluster.protocol import Cluster, ExecResult
from headrace.sdk import jobs
from headrace.sdk.client import AsyncClient
from headrace.sdk.logs import LogLine
from headrace.sdk.pumping import Items, pumped
from headrace.spec.kind import Doc, Json, Kind, Ref

P = ParamSpec("P")
T = TypeVar("T")


class Client:
    """See `AsyncClient`. Use `with Client.connect() as client:`."""

    def __init__(self, client: AsyncClient, portal: BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    @classmethod
    @contextmanager
    def connect(
        cls,
        *,
        kubeconfig: str | None = None,
        context: str | None = None,
        namespace: str = "",
        on_warning: Callable[[str], None] | None = None,
    ) -> Iterator[Client]:
        """Connect to the embedded engine of this machine, else to the current kubeconfig's cluster."""
        opened = AsyncClient.connect(kubeconfig=kubeconfig, context=context, namespace=namespace, on_warning=on_warning)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(opened) as client:
            yield cls(client, portal)

    @classmethod
    @contextmanager
    def over(cls, cluster: Cluster, *, namespace: str = "default") -> Iterator[Client]:
        """Talk to any `Cluster`, which the caller then closes."""
        with start_blocking_portal() as portal:
            yield cls(AsyncClient(cluster, namespace=namespace), portal)

    @property
    def namespace(self) -> str:
        return self._client.namespace

    # -- objects ---------------------------------------------------------------------------------------------------

    def ref(self, kind: Kind[Any], name: str, namespace: str = "") -> Ref:
        return self._client.ref(kind, name, namespace)

    def get(self, kind: Kind[Any], name: str, *, namespace: str = "") -> Doc[Any]:
        return self._call(self._client.get, kind, name, namespace=namespace)

    def list(self, kind: Kind[Any], *, namespace: str | None = None, labels: str = "") -> list[Doc[Any]]:
        return self._call(self._client.list, kind, namespace=namespace, labels=labels)

    def apply(self, manifest: Json, *, base: Path | None = None, dry_run: bool = False) -> tuple[str, Doc[Any]]:
        return self._call(self._client.apply, manifest, base=base, dry_run=dry_run)

    def delete(self, kind: Kind[Any], name: str, *, namespace: str = "", wait_s: float | None = None) -> None:
        self._call(self._client.delete, kind, name, namespace=namespace, wait_s=wait_s)

    def set_metadata(
        self,
        kind: Kind[Any],
        name: str,
        *,
        labels: Mapping[str, str | None] = {},
        annotations: Mapping[str, str | None] = {},
        namespace: str = "",
    ) -> Doc[Any]:
        return self._call(
            self._client.set_metadata, kind, name, labels=labels, annotations=annotations, namespace=namespace
        )

    def wait(
        self,
        kind: Kind[Any],
        name: str,
        until: Callable[[Doc[Any] | None], bool],
        *,
        namespace: str = "",
        timeout_s: float,
    ) -> Doc[Any] | None:
        return self._call(self._client.wait, kind, name, until, namespace=namespace, timeout_s=timeout_s)

    def changes(self, kind: Kind[Any], ref: Ref) -> AbstractContextManager[Iterator[Doc[Any] | None]]:
        return self._iterated(self._client.changes(kind, ref))

    # -- jobs ------------------------------------------------------------------------------------------------------

    def submit(self, job: Json, *, base: Path | None = None, dry_run: bool = False) -> Doc[Any]:
        return self._call(self._client.submit, job, base=base, dry_run=dry_run)

    def stop(self, name: str, *, namespace: str = "") -> Doc[Any]:
        return self._call(self._client.stop, name, namespace=namespace)

    def why(self, name: str, *, namespace: str = "") -> Json:
        return self._call(self._client.why, name, namespace=namespace)

    def quote(self, job: Json) -> Json:
        return self._call(self._client.quote, job)

    def logs(
        self,
        name: str,
        *,
        namespace: str = "",
        follow: bool = True,
        container: str = "",
        worker: str = "",
        tail_lines: int | None = None,
        since_s: float | None = None,
    ) -> AbstractContextManager[Iterator[LogLine]]:
        lines = self._client.logs(
            name,
            namespace=namespace,
            follow=follow,
            container=container,
            worker=worker,
            tail_lines=tail_lines,
            since_s=since_s,
        )
        return self._iterated(lines)

    def exec(
        self,
        name: str,
        command: Sequence[str],
        *,
        worker: str = "",
        container: str = jobs.MAIN_CONTAINER,
        stdin: bytes = b"",
        namespace: str = "",
    ) -> ExecResult:
        return self._call(
            self._client.exec,
            name,
            command,
            worker=worker,
            container=container,
            stdin=stdin,
            namespace=namespace,
        )

    # -- data and money --------------------------------------------------------------------------------------------

    def connect_dataset(self, claim: str, profile: str, *, namespace: str = "") -> Doc[Any]:
        return self._call(self._client.connect_dataset, claim, profile, namespace=namespace)

    def wait_for_dataset(self, claim: str, *, namespace: str = "", timeout_s: float) -> Doc[Any]:
        return self._call(self._client.wait_for_dataset, claim, namespace=namespace, timeout_s=timeout_s)

    def usage(self, **filters: str) -> Json:
        return self._call(self._client.usage, **filters)

    def replay(self, **filters: str) -> Json:
        return self._call(self._client.replay, **filters)

    def _call(self, method: Callable[P, Awaitable[T]], *arguments: P.args, **named: P.kwargs) -> T:
        return self._portal.call(partial(method, *arguments, **named))

    @contextmanager
    def _iterated(self, opened: AbstractAsyncContextManager[AsyncIterator[T]]) -> Iterator[Iterator[T]]:
        async def copy(send: MemoryObjectSendStream[T]) -> None:
            async with opened as items:
                async for item in items:
                    await send.send(item)

        with self._portal.wrap_async_context_manager(pumped(copy)) as items:
            yield self._items(items)

    def _items(self, items: Items[T]) -> Iterator[T]:
        while True:
            try:
                yield self._portal.call(items.__anext__)
            except StopAsyncIteration:
                return
