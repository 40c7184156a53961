"""Who may do what in the embedded engine: Kubernetes' own groups, and the volume driver's, which reads what it mounts."""

from __future__ import annotations

from headrace.engine.facade.authoriser import GroupAuthoriser
from headrace.engine.pipeline.request import Attributes, User

DRIVER_GROUP = "headrace:driver"
_DRIVER_READS = frozenset(
    {
        *("thinruntimeprofiles", "thinruntimes", "datasets", "secrets", "configmaps"),
        *("persistentvolumes", "persistentvolumeclaims", "pods"),
    }
)


class EmbeddedAuthoriser:
    """Satisfies `engine.pipeline.request.Authoriser`."""

    def __init__(self) -> None:
        self._groups = GroupAuthoriser()

    def refusal(self, user: User, attributes: Attributes) -> str:
        reads = attributes.verb in {"get", "list", "watch"} and not attributes.subresource
        if DRIVER_GROUP in user.groups and reads and attributes.resource in _DRIVER_READS:
            return ""
        return self._groups.refusal(user, attributes)
