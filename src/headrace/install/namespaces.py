"""The two namespaces of an installation.

Pod Security is enforced by namespace, so the one privileged part, the volume driver, has a namespace of its own. Beside
it *restricted* would have to be given up for everything else, and whoever may make a pod there would own the nodes.
"""

from __future__ import annotations

from headrace.install.installation import Installation
from headrace.spec.kind import Json

ENFORCE = "pod-security.kubernetes.io/enforce"


def namespaces(installation: Installation) -> list[Json]:
    """Return both, or the first one where no node has the driver."""
    found = [_namespace(installation.namespace, "restricted")]
    return [*found, _namespace(installation.node_namespace, "privileged")] if installation.nodes else found


def _namespace(name: str, level: str) -> Json:
    labels = {ENFORCE: level}
    for way in ("audit", "warn"):
        labels[f"pod-security.kubernetes.io/{way}"] = level
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
