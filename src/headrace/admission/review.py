"""What an admitter needs to know of a request. The engine's `AdmissionRequest` has all of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from headrace.spec.kind import Json, Kind, Ref


class Person(Protocol):
    """Who asks."""

    @property
    def name(self) -> str: ...


class Review(Protocol):
    """One request that would change or use an object.

    `object` is None for DELETE, `old` for CREATE. An admitter changes neither and returns another object.
    """

    @property
    def user(self) -> Person: ...
    @property
    def operation(self) -> str:
        """CREATE, UPDATE, DELETE or CONNECT."""
        ...

    @property
    def kind(self) -> Kind[Any]: ...
    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def subresource(self) -> str: ...
    @property
    def object(self) -> Json | None: ...
    @property
    def old(self) -> Json | None: ...
    @property
    def options(self) -> Json: ...
    @property
    def warnings(self) -> list[str]: ...


class Admitter(Protocol):
    """One step. Has no effect of its own, so a dry run needs no care."""

    async def admit(self, request: Review) -> Json | None:
        """Return a changed copy of the object, or None to leave it; raise Denied or InvalidSpec to refuse."""
        ...


Trusted = Collection[str]
"""Names of users who are Headrace itself: what they write was decided by a controller."""


def ref_of(request: Review) -> Ref:
    """Return what the request is about."""
    return Ref(request.namespace, request.name)
