"""Warns whoever deletes data's objects while somebody uses them: what will happen, and who they are."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.admission.review import Review, ref_of
from headrace.cluster.cache import Cache
from headrace.data.runtime.observe import DatasetObserver
from headrace.spec.kind import Json
from headrace.spec.kinds import DATASET, THIN_RUNTIME, THIN_RUNTIME_PROFILE

_SHOWN = 5


class InUse:
    """Adds warnings to deletions of Datasets, ThinRuntimes and profiles."""

    def __init__(self, cache: Cache, observer: DatasetObserver) -> None:
        self._observer = observer
        self._runtimes = cache.reader(THIN_RUNTIME)

    async def admit(self, request: Review) -> Json | None:
        """Warn; never refuse and never change."""
        if request.operation != "DELETE" or request.subresource:
            return None
        if request.kind.name in {DATASET.name, THIN_RUNTIME.name}:
            pods = self._observer.users(ref_of(request), with_claim=True)
            if pods:
                request.warnings.append(
                    f"{request.kind.name} {request.name} is in use and goes when these pods have ended: {_some(pods)}."
                )
        elif request.kind.name == THIN_RUNTIME_PROFILE.name:
            users = [str(r.ref) for r in self._runtimes.list() if r.spec.get("profileName") == request.name]
            if users:
                request.warnings.append(
                    f"ThinRuntimeProfile {request.name} is in use; these Datasets cannot be mounted anew without it: "
                    f"{_some(sorted(users))}."
                )
        return None


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
