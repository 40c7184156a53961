"""`Cluster`: the seam everything stands on, small enough to know by heart.

Implemented by the remote client (HTTPS), by the embedded engine in process, and by a fake for tests; one contract
suite (`tests/contract/`) holds all of them to the same answers. There is no replace: a typed PUT loses fields.

Errors are those of `headrace.errors`: NotFound, Conflict, AlreadyExists, InvalidSpec, Denied, Unavailable, Expired.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec
from anyio.abc import ByteReceiveStream, ByteSendStream

from headrace.spec.kind import Doc, Json, Kind, Ref

T = TypeVar("T", bound=msgspec.Struct)

Propagation = Literal["Background", "Foreground", "Orphan"]


class Scope(msgspec.Struct, frozen=True):
    """Which objects of a kind: everywhere by default; selectors in kubectl's syntax (`a=b,c!=d,e in (f,g)`)."""

    namespace: str = ""
    labels: str = ""
    fields: str = ""


ALL = Scope()


class MergePatch(msgspec.Struct, frozen=True):
    """RFC 7386. `None` removes a key; lists are replaced whole."""

    body: Json


class JsonPatch(msgspec.Struct, frozen=True):
    """RFC 6902. A failed `test` operation is InvalidSpec, as the API server answers 422."""

    operations: Sequence[Json]


class ServerSideApply(msgspec.Struct, frozen=True):
    """Apply a configuration as a field manager (Kubernetes, "Server-Side Apply"); makes the object where there is none.

    Args:
        body: names the object (`metadata.name`) and every field that `manager` wants to own. What it owned before and
            names no more goes, unless somebody else owns it, too.
        force: take fields that others own and that would change; without it they are Conflict.
    """

    body: Json
    manager: str
    force: bool = False


Patch = MergePatch | JsonPatch | ServerSideApply


class Page(Generic[T]):
    """One chunk of a list. `resume` is empty on the last one; `version` is where a watch may start."""

    __slots__ = ("items", "resume", "version")

    def __init__(self, items: list[Doc[T]], version: str, resume: str = "") -> None:
        self.items = items
        self.version = version
        self.resume = resume


ChangeType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


class Change(Generic[T]):
    """One watch event. A BOOKMARK carries only `doc.version`."""

    __slots__ = ("doc", "type")

    def __init__(self, type: ChangeType, doc: Doc[T]) -> None:
        self.type = type
        self.doc = doc

    def __repr__(self) -> str:
        return f"Change({self.type} {self.doc!r})"


class ExecResult(msgspec.Struct, frozen=True):
    """What a finished command said. `exit_code` is the command's own; output is capped at 1 MiB a stream."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Cluster(Protocol):
    """One Kubernetes API."""

    async def get(self, kind: Kind[T], ref: Ref) -> Doc[T]:
        """Return one object; raises NotFound."""
        ...

    async def list(self, kind: Kind[T], where: Scope = ALL, *, limit: int = 500, resume: str = "") -> Page[T]:
        """Return one chunk. Pass `page.resume` for the next; raises Expired when the token is too old."""
        ...

    def watch(
        self, kind: Kind[T], where: Scope = ALL, *, since: str, idle_timeout_s: float = 60.0
    ) -> AbstractAsyncContextManager[AsyncIterator[Change[T]]]:
        """Stream changes after version `since`, bookmarks included.

        The iterator ends when the server ends the stream; raises Expired (410) when `since` is too old, and
        Unavailable when nothing at all, not even a bookmark, came for `idle_timeout_s`.
        """
        ...

    async def create(self, kind: Kind[T], body: Json, *, dry_run: bool = False) -> Doc[T]:
        """Create an object from raw JSON; raises AlreadyExists, InvalidSpec, Denied."""
        ...

    async def patch(
        self, kind: Kind[T], ref: Ref, patch: Patch, *, subresource: str = "", dry_run: bool = False
    ) -> Doc[T]:
        """Change an object. To compare and swap, put `metadata.resourceVersion` into the patch; raises Conflict."""
        ...

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
        """Ask for deletion; it is done when finalizers are. NotFound when absent, Conflict on another uid/version."""
        ...

    # -- pods only -------------------------------------------------------------------------------------------------

    def logs(
        self,
        ref: Ref,
        *,
        container: str = "",
        follow: bool = False,
        previous: bool = False,
        tail_lines: int | None = None,
        since_s: float | None = None,
        timestamps: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream a container's output in chunks of whole or part lines; ends when the container has ended."""
        ...

    async def exec(self, ref: Ref, command: Sequence[str], *, container: str = "", stdin: bytes = b"") -> ExecResult:
        """Run a command in a running container and wait for it."""
        ...

    def attach_exec(
        self, ref: Ref, command: Sequence[str], *, container: str = "", tty: bool = False
    ) -> AbstractAsyncContextManager[ExecStream]:
        """Run a command interactively."""
        ...

    async def evict(self, ref: Ref, *, grace_s: int | None = None) -> None:
        """Delete a pod through the Eviction API, which honours disruption budgets."""
        ...

    async def bind(self, ref: Ref, node: str) -> None:
        """Bind a pod to a node (pods/binding); raises Conflict when it is bound already."""
        ...

    async def request(
        self, method: str, path: str, *, query: Any = None, body: Any = None, accept: str = "application/json"
    ) -> Any:
        """Call any path, such as an aggregated API's computed reads or a server-side Table.

        `body` is sent as JSON, or as `application/octet-stream` when it is bytes. Returns decoded JSON, or bytes when
        the answer is not JSON.
        """
        ...


class ExecStream(Protocol):
    """A running interactive command."""

    stdin: ByteSendStream
    stdout: ByteReceiveStream
    stderr: ByteReceiveStream

    async def resize(self, columns: int, rows: int) -> None: ...

    async def wait(self) -> int:
        """Wait for the command to end and return its exit code."""
        ...
