"""Which cluster a command or a program talks to."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.cluster.protocol import Cluster
from headrace.errors import Unavailable
from headrace.settings import Home, default_home


def kubeconfig_path(explicit: str | None = None) -> Path:
    """Return the kubeconfig to use.

    In this order: `explicit`, the embedded engine's (when one was started on this machine), `$KUBECONFIG`,
    `~/.kube/config`. Raises Unavailable when there is none.
    """
    if explicit:
        path = Path(explicit).expanduser()
        if not path.is_file():
            raise Unavailable(
                f"The kubeconfig {explicit!r} does not exist.", hint="Check the path given to --kubeconfig."
            )
        return path
    candidates = [Home(default_home()).kubeconfig]
    candidates += [Path(p) for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    candidates.append(Path("~/.kube/config").expanduser())
    for path in candidates:
        if path.is_file():
            return path
    raise Unavailable(
        "There is no Headrace running here and no kubeconfig.",
        hint="Start one on this machine with: headrace up. Or name a cluster with --kubeconfig FILE.",
    )


def connect(kubeconfig: str | None = None, context: str | None = None) -> Cluster:
    """Return a client of the cluster that `kubeconfig_path` finds."""
    from headrace.cluster.remote import RemoteCluster

    return RemoteCluster.from_kubeconfig(kubeconfig_path(kubeconfig), context=context)
