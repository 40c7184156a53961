"""Nobody gets into a dataset client's container: it holds the storage's secret, and the app's own container does not.

The boundary is the namespace (docs/design.md, section 5): whoever may create pods in it can mount the Secret
themselves. This keeps those out who may only exec.
"""

from __future__ import annotations

from headrace.admission.review import Review, Trusted
from headrace.errors import Denied
from headrace.spec.kind import Json
from headrace.spec.kinds import POD
from headrace.spec.names import MATERIALISE_PREFIX, SIDECAR_PREFIX

_WAYS_IN = {"exec", "attach"}
_DEBUGGING = "ephemeralcontainers"


class SidecarGuard:
    """Refuses exec and attach into clients' containers, and debugging containers that join them."""

    def __init__(self, trusted: Trusted) -> None:
        self._trusted = trusted

    async def admit(self, request: Review) -> Json | None:
        """Refuse, or leave the object as it is."""
        if request.kind.name != POD.name or request.user.name in self._trusted:
            return None
        if request.subresource in {*_WAYS_IN, _DEBUGGING} and _is_client(request.name):
            raise Denied(
                f"Pod {request.namespace}/{request.name} is a dataset's client and holds its storage's secret.",
                hint=f"Read what it says with: kubectl logs {request.name}",
            )
        if request.operation == "CONNECT" and request.subresource in _WAYS_IN:
            _refuse(str(request.options.get("container") or ""), request)
        if request.subresource == _DEBUGGING and request.object is not None:
            for container in (request.object.get("spec") or {}).get("ephemeralContainers") or []:
                _refuse(str(container.get("targetContainerName") or ""), request)
        return None


def _is_client(name: str) -> bool:
    """Tell it of a container, or of a pod that serves whole nodes (`data.nodemounts`) and is nothing else."""
    return name.startswith((SIDECAR_PREFIX, MATERIALISE_PREFIX))


def _refuse(container: str, request: Review) -> None:
    if _is_client(container):
        raise Denied(
            f"Container {container} of pod {request.namespace}/{request.name} is a dataset's client and holds its "
            "storage's secret.",
            hint=f"Read what it says with: kubectl logs {request.name} -c {container}",
        )
