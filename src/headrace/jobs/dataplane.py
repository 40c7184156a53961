"""What jobs ask of the data plane. `data` satisfies it; `roles` joins them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from headrace.scheduling.model import Access
from headrace.spec.kind import Doc, Json


class DataPlane(Protocol):
    """Claims seen from pools."""

    def access(self, namespace: str, claims: Mapping[str, bool], pool: Doc[Any]) -> Access:
        """Return whether pods with these claims (name → only read) may and can run in `pool`, and what that takes."""
        ...

    def inject(self, pod: Json, pool: Doc[Any]) -> Json:
        """Return the pod as it runs in `pool`. Pure; raises InvalidSpec or Denied with a sentence, never half done."""
        ...
