"""What the driver needs of the world its pods live in, and of its own clients there. The node's world client fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from headrace.spec.kind import Json


class World(Protocol):
    """Orders to a world (`headrace.sandbox`), one answer each."""

    async def request(self, op: str, *, fds: Sequence[int] = (), timeout_s: float = 30.0, **fields: Any) -> Json:
        """Order something and return the answer; raises `headrace.errors`, with the world's own code in `code`."""
        ...


def container_of(state: Json, pod: str, container: str) -> Json | None:
    """Return one container of a world's `state`, None when it does not know it."""
    for known in state.get("pods") or ():
        if known.get("pod") == pod:
            for entry in known.get("containers") or ():
                if entry.get("container") == container:
                    found: Json = entry
                    return found
    return None
