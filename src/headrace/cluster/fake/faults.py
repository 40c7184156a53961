"""What a test has told the fake to do wrong, and what it was asked."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from headrace.spec.kind import Kind, Ref

Verb = Literal["get", "list", "watch", "create", "patch", "delete", "logs", "exec", "evict", "bind", "request"]


class Call(NamedTuple):
    """One call as it came in. `kind` is the kind's name, or the path of a `request`."""

    verb: Verb
    kind: str
    ref: Ref


class _Fault(NamedTuple):
    verb: Verb
    kind: Kind[Any] | None
    error: Exception
    after: bool


class Faults:
    """Faults waiting for their call, first come first served."""

    def __init__(self) -> None:
        self._waiting: list[_Fault] = []

    def add(self, verb: Verb, error: Exception, *, times: int, kind: Kind[Any] | None, after: bool) -> None:
        self._waiting += [_Fault(verb, kind, error, after)] * times

    def strike(self, verb: Verb, kind: Kind[Any] | None, *, after: bool = False) -> None:
        """Raise the next fault that waits for this call, if there is one."""
        for place, fault in enumerate(self._waiting):
            is_of_kind = fault.kind is None or (kind is not None and fault.kind.resource == kind.resource)
            if fault.verb == verb and fault.after == after and is_of_kind:
                del self._waiting[place]
                raise fault.error
