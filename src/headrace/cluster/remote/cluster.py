"""`RemoteCluster`: the Cluster protocol over HTTP."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast
from urllib.parse import quote

import anyio
import httpx2
import msgspec

from headrace.cluster.protocol import (
    ALL,
    Change,
    ChangeType,
    ExecResult,
    ExecStream,
    JsonPatch,
    MergePatch,
    Page,
    Patch,
    Propagation,
    Scope,
    ServerSideApply,
)
from headrace.cluster.remote import connection
from headrace.cluster.remote.answers import error_of
from headrace.cluster.remote.transport import JSON_TYPE, TIMEOUT_S, Transport
from headrace.errors import InvalidSpec, Unavailable
from headrace.managedfields.sharing import share_entries
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import POD

T = TypeVar("T", bound=msgspec.Struct)

WARNED = "cluster.warned"


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    resume: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_decode_list = msgspec.json.Decoder(_List).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_object = msgspec.json.Decoder(Json).decode

Reading = Callable[[msgspec.Raw], Json]
"""From an object's JSON to as much of it as a process keeps. What parts of different objects are equal may be shared."""


_REMEMBERED = 256


def _logging() -> Callable[[str], None]:
    """Return what logs each warning once: a server says the same with every write of an object."""
    said: set[str] = set()

    def log(text: str) -> None:
        from headrace.telemetry import logger  # 0.1 s that a command which prints its warnings need not pay

        if text not in said:
            if len(said) >= _REMEMBERED:
                said.clear()
            said.add(text)
            logger(component="cluster.remote").info(WARNED, text=text)

    return log


class RemoteCluster:
    """One Kubernetes API over one kept HTTP client.

    Objects of lists and watches share equal sets of `managedFields`: caches would hold more of them than of all else.

    Use as `async with RemoteCluster.from_kubeconfig(path) as cluster`, or close it with `aclose`.

    Args:
        client: from `connection.Connection.open`.
        namespace: what the credential's owner works in by default; only for callers to look at.
        on_warning: is given each warning of the server, such as a deprecated or misspelt field; by default each is logged
            once.
        readings: how objects of lists and watches are read, by kind; whole by default.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        *,
        namespace: str = "default",
        on_warning: Callable[[str], None] | None = None,
        readings: Mapping[Kind[Any], Reading] | None = None,
    ) -> None:
        self.namespace = namespace
        self._readings = readings or {}
        self._http = Transport(client, on_warning or _logging())

    @property
    def requests(self) -> Mapping[tuple[str, str, int], int]:
        """How many requests were answered, by method, resource (`pods`, `pods/status`) and status."""
        return self._http.requests

    @classmethod
    def from_kubeconfig(
        cls,
        path: Path,
        *,
        context: str | None = None,
        on_warning: Callable[[str], None] | None = None,
        readings: Mapping[Kind[Any], Reading] | None = None,
    ) -> RemoteCluster:
        """Connect as a kubeconfig says; nothing is sent yet. Raises InvalidSpec for one that cannot be used."""
        found = connection.from_kubeconfig(path, context)
        return cls(found.open(), namespace=found.namespace, on_warning=on_warning, readings=readings)

    @classmethod
    def in_cluster(cls, *, readings: Mapping[Kind[Any], Reading] | None = None) -> RemoteCluster:
        """Connect as the service account of the pod this runs in. Raises InvalidSpec outside of one."""
        found = connection.in_cluster()
        return cls(found.open(), namespace=found.namespace, readings=readings)

    async def __aenter__(self) -> RemoteCluster:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + TIMEOUT_S):
            await self._http.client.aclose()

    # -- objects -----------------------------------------------------------------------------------------------------

    async def get(self, kind: Kind[T], ref: Ref) -> Doc[T]:
        return self._doc(kind, await self._http.call("GET", _path(kind, ref)))

    async def list(self, kind: Kind[T], where: Scope = ALL, *, limit: int = 500, resume: str = "") -> Page[T]:
        query = _selecting(where, limit=limit or None, **{"continue": resume or None})
        path = kind.path(quote(where.namespace, safe=""))
        response = await self._http.send("GET", path, query=query)
        with self._http.translating(f"GET {path}", TIMEOUT_S):
            answer = _decode_list(response.content)
            docs = [self._kept(kind, content) for content in answer.items or ()]
        return Page(docs, answer.metadata.resource_version, answer.metadata.resume)

    @asynccontextmanager
    async def watch(
        self, kind: Kind[T], where: Scope = ALL, *, since: str, idle_timeout_s: float = 60.0
    ) -> AsyncIterator[AsyncIterator[Change[T]]]:
        query = _selecting(
            where,
            watch="1",
            allowWatchBookmarks="1",
            resourceVersion=since or None,
            timeoutSeconds=random.randint(300, 600),  # noqa: S311 as client-go: not all watches end at once
        )
        path = kind.path(quote(where.namespace, safe=""))
        async with self._http.stream(path, query, accept=JSON_TYPE, read_timeout_s=idle_timeout_s) as chunks:
            async with aclosing(self._changes(kind, chunks, path)) as changes:
                yield changes

    async def _changes(self, kind: Kind[T], chunks: AsyncIterator[bytes], path: str) -> AsyncGenerator[Change[T]]:
        rest = b""
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(None, lines):
                with self._http.translating(f"watching {path}", 0):
                    event = _decode_event(line)
                    if event.type == "ERROR":
                        raise error_of(_decode_object(event.object))
                    doc = self._kept(kind, event.object)
                yield Change(cast("ChangeType", event.type), doc)
        if rest.strip():
            raise Unavailable(f"The stream of {path} was cut in the middle of an object.", hint="Watch again.")

    async def create(self, kind: Kind[T], body: Json, *, dry_run: bool = False) -> Doc[T]:
        namespace = (body.get("metadata") or {}).get("namespace") or ""
        if kind.namespaced != bool(namespace):
            raise InvalidSpec(
                f"{kind.name} is {'namespaced' if kind.namespaced else 'not namespaced'}.",
                hint=f"{'Set' if kind.namespaced else 'Remove'} metadata.namespace.",
                causes=(("metadata.namespace", "required" if kind.namespaced else "forbidden"),),
            )
        body = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        path = kind.path(quote(namespace, safe=""))
        return self._doc(kind, await self._http.call("POST", path, query=_dry(dry_run), body=body))

    async def patch(
        self, kind: Kind[T], ref: Ref, patch: Patch, *, subresource: str = "", dry_run: bool = False
    ) -> Doc[T]:
        query = _dry(dry_run)
        match patch:
            case MergePatch(body):
                content_type, content = "application/merge-patch+json", msgspec.json.encode(body)
            case JsonPatch(operations):
                content_type, content = "application/json-patch+json", msgspec.json.encode(operations)
            case ServerSideApply(body, manager, force):
                query |= {"fieldManager": manager, "force": "true" if force else "false"}
                whole = {"apiVersion": kind.api_version, "kind": kind.name, **body}
                content_type, content = "application/apply-patch+yaml", msgspec.json.encode(whole)
        path = _path(kind, ref, subresource)
        return self._doc(
            kind, await self._http.call("PATCH", path, query=query, body=content, content_type=content_type)
        )

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
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        demanded = {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value}
        if demanded:
            options["preconditions"] = demanded
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        await self._http.send("DELETE", _path(kind, ref), body=options)

    # -- pods --------------------------------------------------------------------------------------------------------

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
        query = {
            "container": container or None,
            "follow": "true" if follow else None,
            "previous": "true" if previous else None,
            "tailLines": tail_lines,
            "sinceSeconds": max(1, round(since_s)) if since_s is not None else None,
            "timestamps": "true" if timestamps else None,
        }
        # A container may be silent for days, so a followed stream has no deadline of its own; TCP keepalive, set on
        # every connection, ends it when the other side is gone.
        read_timeout_s = None if follow else TIMEOUT_S
        path = _path(POD, ref, "log")
        async with self._http.stream(path, query, accept="*/*", read_timeout_s=read_timeout_s) as chunks:
            yield chunks

    async def exec(self, ref: Ref, command: Sequence[str], *, container: str = "", stdin: bytes = b"") -> ExecResult:
        from headrace.cluster.remote import commands  # 50 ms that only those pay who need it

        return await commands.run_command(self._http, _path(POD, ref, "exec"), command, container, stdin)

    def attach_exec(
        self, ref: Ref, command: Sequence[str], *, container: str = "", tty: bool = False
    ) -> AbstractAsyncContextManager[ExecStream]:
        from headrace.cluster.remote import commands

        path = _path(POD, ref, "exec")
        return commands.attached(self._http, path, command, container=container, stdin=True, tty=tty)

    async def evict(self, ref: Ref, *, grace_s: int | None = None) -> None:
        body: Json = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {**_named(ref)}}
        if grace_s is not None:
            body["deleteOptions"] = {"gracePeriodSeconds": grace_s}
        await self._http.send("POST", _path(POD, ref, "eviction"), body=body)

    async def bind(self, ref: Ref, node: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": _named(ref), "target": target}
        await self._http.send("POST", _path(POD, ref, "binding"), body=body)

    # -- anything ----------------------------------------------------------------------------------------------------

    async def request(
        self, method: str, path: str, *, query: Any = None, body: Any = None, accept: str = JSON_TYPE
    ) -> Any:
        content_type = "application/octet-stream" if isinstance(body, bytes) else JSON_TYPE
        response = await self._http.send(method, path, query=query, body=body, content_type=content_type, accept=accept)
        if response.headers.get("content-type", "").startswith(JSON_TYPE) and response.content:
            with self._http.translating(f"{method} {path}", TIMEOUT_S):
                return msgspec.json.decode(response.content)
        return response.content

    def _kept(self, kind: Kind[T], content: msgspec.Raw) -> Doc[T]:
        raw = self._readings.get(kind, _decode_object)(content)
        share_entries(raw)
        return self._doc(kind, raw)

    def _doc(self, kind: Kind[T], raw: Json) -> Doc[T]:
        """Lists leave out what all their items share; a Doc has it always."""
        raw.setdefault("apiVersion", kind.api_version)
        raw.setdefault("kind", kind.name)
        return Doc(kind, raw)


def _path(kind: Kind[Any], ref: Ref, subresource: str = "") -> str:
    return kind.path(quote(ref.namespace, safe=""), quote(ref.name, safe=""), subresource)


def _named(ref: Ref) -> Json:
    return {"name": ref.name, "namespace": ref.namespace}


def _selecting(where: Scope, **query: Any) -> dict[str, Any]:
    return {"labelSelector": where.labels or None, "fieldSelector": where.fields or None, **query}


def _dry(dry_run: bool) -> dict[str, Any]:
    return {"dryRun": "All"} if dry_run else {}
