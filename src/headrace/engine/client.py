"""`LocalCluster`: the Cluster protocol in process, straight into the pipeline as one user.

The engine's own controllers and Headrace's talk through it, so they pass the same authorisation, admission and
validation as everybody. Objects are shared with the store: `Doc.raw` must not be changed, as everywhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Protocol, TypeVar

import anyio
import msgspec

from headrace.cluster.protocol import (
    ALL,
    Change,
    ExecResult,
    ExecStream,
    JsonPatch,
    MergePatch,
    Page,
    Patch,
    Propagation,
    Scope,
)
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.request import PatchType, Preconditions, Request, User, Verb, WatchStream
from headrace.errors import Unavailable, Unsupported
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import POD

T = TypeVar("T", bound=msgspec.Struct)


class PodStreams(Protocol):
    """The way to a pod's node: its logs and commands. The pod has been looked up and the caller authorised."""

    def logs(self, pod: Json, options: Json) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream a container's output. Options: container, follow, previous, tailLines, sinceSeconds, timestamps."""
        ...

    async def exec(self, pod: Json, command: Sequence[str], *, container: str, stdin: bytes) -> ExecResult:
        """Run a command and wait for it."""
        ...

    def attach_exec(
        self, pod: Json, command: Sequence[str], *, container: str, tty: bool
    ) -> AbstractAsyncContextManager[ExecStream]:
        """Run a command interactively."""
        ...


class Aggregated(Protocol):
    """Answers paths that are no resources, such as the computed reads."""

    async def request(self, user: User, method: str, path: str, *, query: Any, body: Any, accept: str) -> Any:
        """Return what `Cluster.request` returns."""
        ...


class LocalCluster:
    """One user's view of the engine; satisfies `cluster.protocol.Cluster`.

    Args:
        streams: the way to pods' logs and commands; without it those are Unsupported.
        aggregated: answers `request`; without it that is Unsupported.
        manager: who owns the fields that are written, unless an apply names another.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        user: User,
        *,
        streams: PodStreams | None = None,
        aggregated: Aggregated | None = None,
        manager: str = "headrace",
    ) -> None:
        self._manager = manager
        self._pipeline = pipeline
        self._user = user
        self._streams = streams
        self._aggregated = aggregated

    async def get(self, kind: Kind[T], ref: Ref) -> Doc[T]:
        """Return one object; raises NotFound."""
        return await self._object(kind, Request(verb="get", kind=kind, namespace=ref.namespace, name=ref.name))

    async def list(self, kind: Kind[T], where: Scope = ALL, *, limit: int = 500, resume: str = "") -> Page[T]:
        """Return one chunk; `limit` 0 is everything."""
        request = Request(
            verb="list",
            kind=kind,
            namespace=where.namespace,
            labels=where.labels,
            fields=where.fields,
            limit=limit,
            resume=resume,
        )
        body = (await self._pipeline.handle(self._user, request)).body
        metadata = body["metadata"]
        docs = [Doc(kind, raw) for raw in body["items"]]
        return Page(docs, metadata["resourceVersion"], metadata.get("continue", ""))

    @asynccontextmanager
    async def watch(
        self, kind: Kind[T], where: Scope = ALL, *, since: str, idle_timeout_s: float = 60.0
    ) -> AsyncIterator[AsyncIterator[Change[T]]]:
        """Stream changes after version `since`, bookmarks included."""
        request = Request(
            verb="watch",
            kind=kind,
            namespace=where.namespace,
            labels=where.labels,
            fields=where.fields,
            version=since,
            bookmarks=True,
        )
        stream = (await self._pipeline.handle(self._user, request)).stream
        assert stream is not None
        async with aclosing(_changes(kind, stream, idle_timeout_s)) as changes:
            yield changes

    async def create(self, kind: Kind[T], body: Json, *, dry_run: bool = False) -> Doc[T]:
        """Create an object in the namespace its metadata names."""
        namespace = (body.get("metadata") or {}).get("namespace", "")
        body = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        request = Request(
            verb="create", kind=kind, namespace=namespace, body=body, dry_run=dry_run, field_manager=self._manager
        )
        return await self._object(kind, request)

    async def patch(
        self, kind: Kind[T], ref: Ref, patch: Patch, *, subresource: str = "", dry_run: bool = False
    ) -> Doc[T]:
        """Change an object, or the part of it that a subresource is."""
        manager, force = self._manager, False
        patch_type: PatchType
        body: Json | list[Json]
        match patch:
            case MergePatch():
                patch_type, body = "merge", patch.body
            case JsonPatch():
                patch_type, body = "json", list(patch.operations)
            case _:
                patch_type = "apply"
                body = {"apiVersion": kind.api_version, "kind": kind.name, **patch.body}
                manager, force = patch.manager, patch.force
        request = Request(
            verb="patch",
            kind=kind,
            namespace=ref.namespace,
            name=ref.name,
            subresource=subresource,
            body=body,
            patch_type=patch_type,
            dry_run=dry_run,
            field_manager=manager,
            force=force,
        )
        return await self._object(kind, request)

    async def delete(
        self,
        kind: Kind[T],
        ref: Ref,
        *,
        uid: str = "",
        version: str = "",
        grace_s: int | None = None,
        propagation: Propagation = "Background",
    ) -> None:
        """Ask for deletion; it is done when finalizers are."""
        request = Request(
            verb="delete",
            kind=kind,
            namespace=ref.namespace,
            name=ref.name,
            grace_s=grace_s,
            propagation=propagation,
            preconditions=Preconditions(uid, version),
        )
        await self._pipeline.handle(self._user, request)

    # -- pods only -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def logs(
        self,
        ref: Ref,
        *,
        container: str = "",
        follow: bool = False,
        previous: bool = False,
        tail_lines: int | None = None,
        since_s: float | None = None,
        timestamps: bool = False,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream a container's output."""
        given = {
            "container": container,
            "follow": follow,
            "previous": previous,
            "tailLines": tail_lines,
            "sinceSeconds": since_s,
            "timestamps": timestamps,
        }
        options = {
            key: value for key, value in given.items() if value is not None and value is not False and value != ""
        }
        pod = await self._connect(ref, "log", options)
        async with self._pod_streams().logs(pod, options) as lines:
            yield lines

    async def exec(self, ref: Ref, command: Sequence[str], *, container: str = "", stdin: bytes = b"") -> ExecResult:
        """Run a command in a running container and wait for it."""
        pod = await self._connect(ref, "exec", {"container": container, "command": list(command)})
        return await self._pod_streams().exec(pod, command, container=container, stdin=stdin)

    @asynccontextmanager
    async def attach_exec(
        self, ref: Ref, command: Sequence[str], *, container: str = "", tty: bool = False
    ) -> AsyncIterator[ExecStream]:
        """Run a command interactively."""
        pod = await self._connect(ref, "exec", {"container": container, "command": list(command), "tty": tty})
        async with self._pod_streams().attach_exec(pod, command, container=container, tty=tty) as stream:
            yield stream

    async def evict(self, ref: Ref, *, grace_s: int | None = None) -> None:
        """Delete a pod through the Eviction API."""
        options = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        await self._post(ref, "eviction", {"deleteOptions": options})

    async def bind(self, ref: Ref, node: str) -> None:
        """Bind a pod to a node; raises Conflict when it is bound already."""
        await self._post(ref, "binding", {"target": {"kind": "Node", "name": node}})

    async def request(
        self, method: str, path: str, *, query: Any = None, body: Any = None, accept: str = "application/json"
    ) -> Any:
        """Call any path that is no resource."""
        if self._aggregated is None:
            raise Unsupported(f"{method} {path} is not answered in process.", hint="Ask the façade over HTTPS.")
        return await self._aggregated.request(self._user, method, path, query=query, body=body, accept=accept)

    async def _object(self, kind: Kind[T], request: Request) -> Doc[T]:
        return Doc(kind, (await self._pipeline.handle(self._user, request)).body)

    async def _post(self, ref: Ref, subresource: str, body: Json) -> None:
        request = Request(
            verb="create", kind=POD, namespace=ref.namespace, name=ref.name, subresource=subresource, body=body
        )
        await self._pipeline.handle(self._user, request)

    async def _connect(self, ref: Ref, subresource: str, options: Json) -> Json:
        verb: Verb = "get" if subresource == "log" else "create"
        request = Request(verb=verb, kind=POD, namespace=ref.namespace, name=ref.name, subresource=subresource)
        return await self._pipeline.connect(self._user, request, options)

    def _pod_streams(self) -> PodStreams:
        if self._streams is None:
            raise Unsupported("Pods' logs and commands are not reached in process.", hint="Ask the façade over HTTPS.")
        return self._streams


async def _changes(kind: Kind[T], stream: WatchStream, idle_timeout_s: float) -> AsyncGenerator[Change[T]]:
    while True:
        with anyio.move_on_after(idle_timeout_s) as scope:
            batch = await stream.batch()
        if scope.cancelled_caught:
            raise Unavailable(
                f"The watch on {kind.resource} was silent for {idle_timeout_s:.0f} s.", hint="Watch again."
            )
        if not batch:
            return
        for event in batch:
            yield Change(event.type, Doc(kind, event.object))
