"""The aggregated API `reads.headrace.io`, as the API server is told of it."""

from __future__ import annotations

from headrace.install.names import CONTROLLER, READS_API_SERVICE
from headrace.spec.kind import Json
from headrace.spec.names import READS_GROUP, READS_VERSION


def api_service(home: str, *, port: int = 443) -> Json:
    """Return the APIService. It trusts nobody yet: the controller that leads writes `caBundle`."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": READS_API_SERVICE},
        "spec": {
            "group": READS_GROUP,
            "version": READS_VERSION,
            "groupPriorityMinimum": 1000,
            "versionPriority": 15,
            "service": {"name": CONTROLLER, "namespace": home, "port": port},
        },
    }
