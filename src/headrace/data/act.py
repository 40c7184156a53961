"""What reconcilers of this package decide, as values, and the one place that carries it out.

Plans are pure and table-tested; everything that can fail is here. A failed action ends the plan: the reconciler is
called again and decides anew from what is then there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from headrace.cluster.protocol import Cluster, MergePatch
from headrace.errors import NotFound
from headrace.spec.kind import Doc, Json, Kind, Ref

Severity = Literal["Normal", "Warning"]


@dataclass(frozen=True)
class Create:
    """Create an object."""

    kind: Kind[Any]
    body: Json


@dataclass(frozen=True)
class Patch:
    """Change fields of an object by JSON merge patch. With `metadata.resourceVersion` in it, compare and swap."""

    kind: Kind[Any]
    ref: Ref
    body: Json
    subresource: str = ""


@dataclass(frozen=True)
class Delete:
    """Delete an object if it still is the one with this uid."""

    kind: Kind[Any]
    ref: Ref
    uid: str


@dataclass(frozen=True)
class Tell:
    """Write an event about an object."""

    about: Doc[Any]
    severity: Severity
    reason: str
    message: str


Action = Create | Patch | Delete | Tell


@dataclass(frozen=True)
class Plan:
    """What to do now, and when to look again although nothing changed."""

    actions: tuple[Action, ...] = ()
    again_after_s: float | None = None


def in_one_write(plan: Plan, doc: Doc[Any], further: Callable[[Doc[Any]], Plan]) -> Plan:
    """Return a plan with what `further` makes of an object whose status this plan is about to write.

    Both write the status in one patch, and the rest comes last. Nothing is added where this plan leaves the status as it
    is: whoever `further` speaks for then looks by itself.
    """

    def is_status(action: Action) -> bool:
        return isinstance(action, Patch) and (action.kind, action.ref, action.subresource) == (
            doc.kind,
            doc.ref,
            "status",
        )

    mine = next((action for action in plan.actions if is_status(action)), None)
    if not isinstance(mine, Patch):
        return plan
    status = mine.body["status"]
    more = further(Doc(doc.kind, {**doc.raw, "status": {**doc.status, **status}}))
    for action in filter(is_status, more.actions):
        assert isinstance(action, Patch)
        status = {**status, **action.body["status"]}
    written = replace(mine, body={**mine.body, "status": status})
    actions = [written if action is mine else action for action in plan.actions]
    return replace(plan, actions=(*actions, *(action for action in more.actions if not is_status(action))))


class Assuming(Protocol):
    """The part of the cache that is told what we wrote, so that we read it back at once."""

    def assume(self, doc: Doc[Any], /) -> None: ...


TellEvent = Callable[[Doc[Any], Severity, str, str], Awaitable[None]]
"""`events.Recorder.event`: about what, severity, reason, message."""


async def perform(plan: Plan, cluster: Cluster, cache: Assuming, tell: TellEvent) -> None:
    """Carry out a plan in order. An object that is to be deleted and is gone already is fine.

    Patches of one object that compare and swap build on each other: the plan was made from one version, and each
    success proves that nobody came between.

    Raises whatever the cluster raises (Conflict, AlreadyExists, Unavailable…); the caller's queue tries again.
    """
    written: dict[tuple[str, Ref], tuple[str, str]] = {}
    for action in plan.actions:
        match action:
            case Create(kind, body):
                cache.assume(await cluster.create(kind, body))
            case Patch(kind, ref, body, subresource):
                planned = str((body.get("metadata") or {}).get("resourceVersion", ""))
                since, latest = written.get((kind.resource, ref), ("", ""))
                if planned and planned == since:
                    body = {**body, "metadata": {**body["metadata"], "resourceVersion": latest}}
                doc = await cluster.patch(kind, ref, MergePatch(body), subresource=subresource)
                cache.assume(doc)
                if planned:
                    written[kind.resource, ref] = (planned, doc.version)
            case Delete(kind, ref, uid):
                try:
                    await cluster.delete(kind, ref, uid=uid)
                except NotFound:
                    continue
            case Tell(about, severity, reason, message):
                await tell(about, severity, reason, message)
