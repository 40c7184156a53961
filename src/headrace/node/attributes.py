"""What a request to a node's endpoint does, in the words that a cluster's roles are written in. Pure.

In one thing stricter than a kubelet: running commands and reaching ports is always `create`. A kubelet takes the verb
from HTTP's method, so that who may `get` nodes/proxy, as monitoring often may, runs commands by WebSocket.
Source: kubernetes 1.36 `pkg/kubelet/server/auth.go` (with KubeletFineGrainedAuthz, which is GA); Kubernetes
documentation, "Kubelet authentication/authorization".
"""

from __future__ import annotations

from headrace.spec.kind import Json

_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

_REACHING = ("/exec", "/attach", "/run", "/portForward")
_FINE = {"/pods": "pods", "/runningpods": "pods", "/healthz": "healthz", "/configz": "configz"}
"""Besides `proxy`, which allows everything that has no word of its own."""

_OWN = {
    "/stats": "stats",
    "/metrics": "metrics",
    "/logs": "log",
    "/checkpoint": "checkpoint",
    "/statusz": "statusz",
    "/flagz": "configz",
}
"""Instead of `proxy`."""


def subresources(path: str) -> list[str]:
    """Return the subresources of the Node that a path belongs to; to be allowed one of them is enough."""
    fine = [name for prefix, name in _FINE.items() if _is_below(path, prefix)]
    return [*fine, next((name for prefix, name in _OWN.items() if _is_below(path, prefix)), "proxy")]


def attributes(node: str, method: str, path: str) -> list[Json]:
    """Return what is to be asked by SubjectAccessReviews, in this order; to be allowed one of them is enough.

    Args:
        method: of HTTP, GET for a WebSocket. One that Kubernetes has no verb for is asked about with none.
        path: decoded.
    """
    is_reaching = any(_is_below(path, prefix) for prefix in _REACHING)
    verb = "create" if is_reaching else _VERBS.get(method, "")
    return [
        {
            "resourceAttributes": {
                "verb": verb,
                "group": "",
                "version": "v1",
                "resource": "nodes",
                "subresource": each,
                "name": node,
            }
        }
        for each in subresources(path)
    ]


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")
