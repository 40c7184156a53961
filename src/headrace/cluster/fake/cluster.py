"""`FakeCluster`: the Cluster protocol over dictionaries."""

# ruff: noqa: ARG002 the protocol's signatures

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar, cast

import anyio
import anyio.lowlevel
import msgspec

from headrace.clock import Clock, FakeClock
from headrace.cluster.fake import owners, rules
from headrace.cluster.fake.faults import Call, Faults, Verb
from headrace.cluster.fake.history import Event, History
from headrace.cluster.fake.patching import patched
from headrace.cluster.fake.pods import Command, ScriptedExec
from headrace.cluster.protocol import (
    ALL,
    Change,
    ExecResult,
    ExecStream,
    MergePatch,
    Page,
    Patch,
    Propagation,
    Scope,
    ServerSideApply,
)
from headrace.cluster.selection import selector
from headrace.errors import AlreadyExists, Conflict, Expired, NotFound
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import POD

T = TypeVar("T", bound=msgspec.Struct)


class _Table:
    def __init__(self, kind: Kind[Any], now: Callable[[], int]) -> None:
        self.objects: dict[Ref, Json] = {}
        self.history = History(kind, now)


class FakeCluster:
    """One Kubernetes API in memory.

    Kinds are told apart by resource, so a test may use its own `Kind` for a resource that others know under another.
    `calls` holds every call as it came in, failed ones too.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.calls: list[Call] = []
        self._tables: dict[str, _Table] = {}
        self._version = 0
        self._faults = Faults()
        self._pages: dict[str, tuple[list[Json], str]] = {}
        self._logs: dict[tuple[Ref, str], list[bytes]] = {}
        self._commands: dict[tuple[Ref, str], Command] = {}
        self._answers: dict[tuple[str, str], Any] = {}

    # -- what a test sets up -----------------------------------------------------------------------------------------

    def seed(self, kind: Kind[T], *bodies: Json) -> list[Doc[T]]:
        """Put objects there as written, status included, past all rules but identity; replaces what has their names."""
        docs = []
        for body in bodies:
            made, given = rules.created(kind, body, self.clock.now()), copy.deepcopy(body)
            raw = {**made, **given, "metadata": {**made["metadata"], **given["metadata"]}}
            docs.append(self._store(kind, raw, is_kept=True))
        return docs

    def fail_next(
        self, verb: Verb, error: Exception, *, times: int = 1, kind: Kind[Any] | None = None, after: bool = False
    ) -> None:
        """Have the next calls of a verb fail; `after` lets them take effect first, as when the answer is lost."""
        self._faults.add(verb, error, times=times, kind=kind, after=after)

    def expire_watches(self) -> None:
        """Forget history: running watches, older versions and continue tokens get 410."""
        self._pages.clear()
        for table in self._tables.values():
            table.history.expire()

    def cut_watches(self) -> None:
        """End running watches as a lost connection does."""
        for table in self._tables.values():
            table.history.cut()

    def silence_watches(self) -> None:
        """Have running watches say nothing more, not even bookmarks, as over a connection that died unnoticed."""
        for table in self._tables.values():
            table.history.silence()

    def script_logs(self, ref: Ref, chunks: Iterable[bytes], *, container: str = "") -> None:
        """Set what a container has written."""
        self._logs[ref, container] = list(chunks)

    def script_exec(self, ref: Ref, command: Command, *, container: str = "") -> None:
        """Set what running something in a container does."""
        self._commands[ref, container] = command

    def script_request(self, method: str, path: str, answer: Any) -> None:
        """Set the answer to a `request`; a callable is called with `(query, body)`, an exception is raised."""
        self._answers[method, path] = answer

    def count(self, verb: Verb, kind: Kind[Any] | None = None) -> int:
        """Return how often a verb was called."""
        return sum(call.verb == verb and (kind is None or call.kind == kind.name) for call in self.calls)

    # -- Cluster -----------------------------------------------------------------------------------------------------

    async def get(self, kind: Kind[T], ref: Ref) -> Doc[T]:
        await self._enter("get", kind, ref)
        return Doc(kind, self._found(kind, ref))

    async def list(self, kind: Kind[T], where: Scope = ALL, *, limit: int = 500, resume: str = "") -> Page[T]:
        await self._enter("list", kind, Ref(where.namespace, ""))
        if resume:
            if resume not in self._pages:
                raise Expired("The continue token is too old.", hint="List again from the beginning.")
            rest, version = self._pages[resume]
        else:
            objects = self._table(kind).objects
            rest, version = [objects[ref] for ref in sorted(objects)], str(self._version)
            rest = list(filter(selector(where), rest))
        items, rest = (rest[:limit], rest[limit:]) if limit else (rest, [])
        token = ""
        if rest:
            token = f"{version}:{len(rest)}:{where.namespace}:{where.labels}:{where.fields}"
            self._pages[token] = (rest, version)
        return Page([Doc(kind, raw) for raw in items], version, token)

    @asynccontextmanager
    async def watch(
        self, kind: Kind[T], where: Scope = ALL, *, since: str, idle_timeout_s: float = 60.0
    ) -> AsyncIterator[AsyncIterator[Change[T]]]:
        await self._enter("watch", kind, Ref(where.namespace, ""))
        changes = self._table(kind).history.changes(int(since or 0), selector(where), idle_timeout_s)
        async with aclosing(cast("Any", changes)) as stream:
            yield stream

    async def create(self, kind: Kind[T], body: Json, *, dry_run: bool = False) -> Doc[T]:
        meta = body.get("metadata") or {}
        await self._enter("create", kind, Ref(meta.get("namespace", ""), meta.get("name", "")))
        now = self.clock.now()
        raw = rules.created(kind, body, now)
        ref = Doc(kind, raw).ref
        if ref in self._table(kind).objects:
            raise AlreadyExists(f"{kind.name} {ref} exists already.", hint="Use another name, or patch it.")
        return self._finish("create", kind, owners.owned(kind, None, raw, meta.get("managedFields"), "", now), dry_run)

    async def patch(
        self, kind: Kind[T], ref: Ref, patch: Patch, *, subresource: str = "", dry_run: bool = False
    ) -> Doc[T]:
        await self._enter("patch", kind, ref)
        if subresource and subresource not in kind.subresources:
            raise NotFound(f"{kind.name} has no subresource {subresource!r}.", hint="Patch the object itself.")
        if isinstance(patch, ServerSideApply):
            return self._applied(kind, ref, patch, subresource, dry_run)
        old = self._found(kind, ref)
        wanted = patched(old, patch)
        new = rules.updated(kind, old, wanted, subresource)
        given = (wanted.get("metadata") or {}).get("managedFields")
        new = owners.owned(kind, old, new, given, subresource, self.clock.now())
        return self._finish("patch", kind, new, dry_run, old)

    def _applied(self, kind: Kind[T], ref: Ref, patch: ServerSideApply, subresource: str, dry_run: bool) -> Doc[T]:
        now, old = self.clock.now(), self._table(kind).objects.get(ref)
        if old is None and subresource:
            self._found(kind, ref)
        raw = owners.apply(kind, ref, old, patch, subresource, now)
        if old is None:
            return self._finish("patch", kind, owners.kept(rules.created(kind, raw, now), raw), dry_run)
        return self._finish("patch", kind, owners.kept(rules.updated(kind, old, raw, subresource), raw), dry_run, old)

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
        await self._enter("delete", kind, ref)
        raw = self._found(kind, ref)
        meta = raw["metadata"]
        if (uid and meta["uid"] != uid) or (version and meta["resourceVersion"] != version):
            raise Conflict(f"{kind.name} {ref} is another one by now.", hint="Read it again and decide again.")
        grace_s = rules.grace_period_s(kind, raw, grace_s)
        self._finish("delete", kind, rules.marked_for_deletion(raw, grace_s, self.clock.now()), False, raw)

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
        """Yield the scripted chunks; the options are not played."""
        await self._enter("logs", POD, ref)
        self._found(POD, ref)

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in self._logs.get((ref, container), []):
                await anyio.lowlevel.checkpoint()
                yield chunk

        async with aclosing(cast("Any", chunks())) as stream:
            yield stream

    async def exec(self, ref: Ref, command: Sequence[str], *, container: str = "", stdin: bytes = b"") -> ExecResult:
        await self._enter("exec", POD, ref)
        return await self._command(ref, container)(command, stdin)

    @asynccontextmanager
    async def attach_exec(
        self, ref: Ref, command: Sequence[str], *, container: str = "", tty: bool = False
    ) -> AsyncIterator[ExecStream]:
        await self._enter("exec", POD, ref)
        running = ScriptedExec(self._command(ref, container), command)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(running.run)
                yield running
                tasks.cancel_scope.cancel()
        finally:
            running.close()

    async def evict(self, ref: Ref, *, grace_s: int | None = None) -> None:
        await self._enter("evict", POD, ref)
        raw = self._found(POD, ref)
        grace_s = rules.grace_period_s(POD, raw, grace_s)
        self._finish("evict", POD, rules.marked_for_deletion(raw, grace_s, self.clock.now()), False, raw)

    async def bind(self, ref: Ref, node: str) -> None:
        await self._enter("bind", POD, ref)
        raw = self._found(POD, ref)
        bound_to = (raw.get("spec") or {}).get("nodeName")
        if bound_to:
            raise Conflict(f"Pod {ref} is already assigned to node {bound_to!r}.", hint="Read it again.")
        self._finish("bind", POD, patched(raw, MergePatch({"spec": {"nodeName": node}})), False, raw)

    async def request(
        self, method: str, path: str, *, query: Any = None, body: Any = None, accept: str = "application/json"
    ) -> Any:
        self.calls.append(Call("request", path, Ref("", method)))
        await anyio.lowlevel.checkpoint()
        self._faults.strike("request", None)
        if (method, path) not in self._answers:
            raise NotFound(f"There is nothing at {method} {path}.", hint="Script it with script_request.")
        answer = self._answers[method, path]
        if isinstance(answer, Exception):
            raise answer
        return answer(query, body) if callable(answer) else answer

    # -- storing -----------------------------------------------------------------------------------------------------

    async def _enter(self, verb: Verb, kind: Kind[Any], ref: Ref) -> None:
        self.calls.append(Call(verb, kind.name, ref))
        await anyio.lowlevel.checkpoint()  # every real call gives others a turn
        self._faults.strike(verb, kind)

    def _table(self, kind: Kind[Any]) -> _Table:
        return self._tables.setdefault(kind.resource, _Table(kind, lambda: self._version))

    def _found(self, kind: Kind[Any], ref: Ref) -> Json:
        raw = self._table(kind).objects.get(ref)
        if raw is None:
            raise NotFound(f"{kind.name} {ref} is not there.", hint="Check name and namespace.")
        return raw

    def _command(self, ref: Ref, container: str) -> Command:
        self._found(POD, ref)
        if (ref, container) not in self._commands:
            raise NotFound(f"Container {container!r} of pod {ref} runs nothing.", hint="Script it with script_exec.")
        return self._commands[ref, container]

    def _finish(self, verb: Verb, kind: Kind[T], new: Json, dry_run: bool, old: Json | None = None) -> Doc[T]:
        if new == old:
            doc = Doc(kind, new)
        elif dry_run:
            doc = Doc(kind, {**new, "metadata": {"resourceVersion": "", **new["metadata"]}})
        else:
            doc = self._store(kind, new)
        self._faults.strike(verb, kind, after=True)
        return doc

    def _store(self, kind: Kind[T], raw: Json, *, is_kept: bool = False) -> Doc[T]:
        """Give an object the next version, keep it unless nothing keeps it any more, and tell the watches."""
        self._version += 1
        table, ref = self._table(kind), Doc(kind, raw).ref
        before = table.objects.pop(ref, None)
        raw = {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(self._version)}}
        after = raw if is_kept or not rules.is_gone(raw) else None
        if after is not None:
            table.objects[ref] = after
        table.history.add(Event(self._version, before, after))
        return Doc(kind, raw)
