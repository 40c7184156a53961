"""Tells whoever writes something of ours into a namespace that is no project that nothing will come of it."""

from __future__ import annotations

from headrace.admission.review import Review
from headrace.cluster.cache import Cache
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import NAMESPACE
from headrace.spec.names import FLUID_GROUP, HEADRACE_GROUP, PROJECT_LABEL


class ProjectHint:
    """Adds a warning at CREATE. Never refuses: the namespace may become a project afterwards."""

    def __init__(self, cache: Cache) -> None:
        self._namespaces = cache.reader(NAMESPACE)

    async def admit(self, request: Review) -> Json | None:
        """Warn; never change."""
        is_ours = request.kind.group in {FLUID_GROUP, HEADRACE_GROUP} and request.kind.namespaced
        if request.operation != "CREATE" or request.subresource or not is_ours:
            return None
        namespace = self._namespaces.get(Ref("", request.namespace))
        if namespace is not None and PROJECT_LABEL not in namespace.labels:
            request.warnings.append(
                f"Namespace {request.namespace} is no project of Headrace's, so nothing is done with "
                f"{request.kind.name} {request.name}. Whoever installed Headrace can make it one."
            )
        return None
