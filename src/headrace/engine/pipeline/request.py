"""What goes into the pipeline and what comes out: the only words its two entries share.

The façade (HTTPS) and `LocalCluster` (in process) both turn what they are asked into a `User` and a `Request`, call
`Pipeline.handle`, and turn the `Answer` back. Nothing here knows HTTP beyond status numbers; nothing here does I/O.

Errors are raised as `headrace.errors`; `pipeline.status.from_error` makes the Kubernetes Status object of one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

import msgspec

from headrace.spec.kind import Json, Kind

Verb = Literal["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
PatchType = Literal["json", "merge", "strategic", "apply"]
FieldValidation = Literal["Strict", "Warn", "Ignore"]
Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]

PATCH_CONTENT_TYPES: dict[str, PatchType] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}


class User(msgspec.Struct, frozen=True):
    """Who asks, as authentication found out. `groups` always holds `system:authenticated` or `system:unauthenticated`."""

    name: str
    groups: tuple[str, ...] = ("system:authenticated",)
    uid: str = ""
    extra: dict[str, tuple[str, ...]] = {}


SYSTEM = User("system:headrace", ("system:masters", "system:authenticated"))
"""The engine's own controllers."""

LOOPBACK = User("system:apiserver", ("system:masters", "system:authenticated"))
"""The server itself, which makes its first objects before anybody can be asked: its writes concern no webhook.

Otherwise one that is away could keep the server from starting, and so from being told to forget it. Compared by
identity, so that nobody becomes it by impersonation.
"""


class Preconditions(msgspec.Struct, frozen=True):
    """What a deletion demands of the object; empty means nothing is demanded. A mismatch is Conflict."""

    uid: str = ""
    version: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call. The defaults are those of the Kubernetes API.

    Args:
        kind: from `Registry.find`; a kind that is not registered is answered with NotFound.
        subresource: `status`, `scale`, `binding`, `eviction`, `token`, or empty. `log`, `exec`, `attach` and
            `portforward` go through `Pipeline.connect` instead.
        body: bytes as received (JSON, so that duplicate fields are seen), or JSON in process; it is copied.
        patch_type: of a `patch`.
        limit: items in a page, 0 for all. `resume` is the `continue` token.
        version: `resourceVersion` of a get, list or watch. For a list: empty and "0" mean now; with
            `version_match="Exact"` the list is of that moment, Expired when it is forgotten. For a watch: empty and
            "0" mean "first everything as ADDED, then changes".
        send_initial_events: `sendInitialEvents` of a watch; ends the initial events with an annotated bookmark.
        dry_run: everything but the effect.
        field_manager: who owns what is written; an apply must name one. Others are known by `agent`, the caller's
            program, when they name none.
        force: an apply takes fields from their owners.
        grace_s, propagation, preconditions: of a deletion; None leaves the kind's default.
    """

    verb: Verb
    kind: Kind[Any]
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    body: bytes | Json | list[Json] | None = None
    patch_type: PatchType = "merge"
    labels: str = ""
    fields: str = ""
    limit: int = 0
    resume: str = ""
    version: str = ""
    version_match: Literal["", "Exact", "NotOlderThan"] = ""
    send_initial_events: bool = False
    bookmarks: bool = False
    dry_run: bool = False
    field_validation: FieldValidation = "Warn"
    field_manager: str = ""
    agent: str = ""
    force: bool = False
    grace_s: int | None = None
    propagation: Literal["Background", "Foreground", "Orphan"] | None = None
    preconditions: Preconditions = Preconditions()


class WatchEvent(msgspec.Struct, frozen=True):
    """One change. A BOOKMARK's object holds apiVersion, kind and metadata.resourceVersion only."""

    type: EventType
    object: Json


class WatchStream(Protocol):
    """Changes in the order of their versions. Holds nothing on the server: a stream may simply be dropped.

    Raises Expired when the reader has fallen further behind than the history reaches. Never ends by itself but on
    shutdown; the caller bounds it (`timeoutSeconds`).
    """

    async def batch(self) -> list[WatchEvent]:
        """Wait for at least one event and return all that are there; empty when the server is going down."""
        ...

    def __aiter__(self) -> AsyncIterator[WatchEvent]: ...


class Answer(msgspec.Struct, kw_only=True):
    """The outcome of a call.

    Args:
        status: HTTP status number: 200, 201 for something made, 202 for a deletion that waits for finalizers or grace.
        body: the object, the list (`<Kind>List`), or a Status (deletions that are done). Shared: never change it.
        stream: for `watch` only; body is then empty.
        warnings: sentences for `Warning: 299` headers.
    """

    status: int = 200
    body: Json = {}
    stream: WatchStream | None = None
    warnings: tuple[str, ...] = ()


class AdmissionRequest(msgspec.Struct, kw_only=True):
    """What an admitter sees. `object` is None for DELETE; `old` is None for CREATE.

    Args:
        object: the object as it would be stored; an admitter must not change it but return another.
        options: of CONNECT, such as `{"container": "main", "command": ["sh"]}`.
        warnings: may be appended to.
    """

    user: User
    operation: Operation
    kind: Kind[Any]
    namespace: str
    name: str
    subresource: str = ""
    object: Json | None = None
    old: Json | None = None
    options: Json = {}
    dry_run: bool = False
    warnings: list[str] = msgspec.field(default_factory=list)


class Admitter(Protocol):
    """One step of admission, called in the order of registration, after defaulting and before validation."""

    async def admit(self, request: AdmissionRequest) -> Json | None:
        """Return a changed copy of `request.object`, or None to leave it; raise Denied or InvalidSpec to refuse.

        Must have no effect of its own when `request.dry_run`.
        """
        ...


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, as RBAC sees it. `path` is set, and all else but `verb` empty, for URLs that are no resources."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Authoriser(Protocol):
    """Says who may do what; pure and quick, called on the event loop."""

    def refusal(self, user: User, attributes: Attributes) -> str:
        """Return the reason for a refusal, or an empty text when the user may."""
        ...


class AllowAll:
    """An authoriser for one person's own machine and for tests."""

    def refusal(self, user: User, attributes: Attributes) -> str:  # noqa: ARG002 a protocol's signature
        return ""


class IssuedToken(msgspec.Struct, frozen=True):
    """A service account's token and the RFC 3339 moment at which it ends."""

    token: str
    expires: str


class TokenIssuer(Protocol):
    """Signs tokens for `serviceaccounts/token` (TokenRequest)."""

    def issue(
        self,
        *,
        namespace: str,
        service_account: str,
        uid: str,
        audiences: tuple[str, ...],
        lifetime_s: int,
        bound_to: Json | None,
    ) -> IssuedToken:
        """Return a token. `bound_to` is the request's `boundObjectRef` with its uid filled in."""
        ...
