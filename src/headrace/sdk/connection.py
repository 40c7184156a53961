"""Which cluster a command or a program talks to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from headrace.cluster.protocol import Cluster
from headrace.errors import Unavailable
from headrace.settings import Home, default_home

SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def kubeconfig_path(explicit: str | None = None) -> Path | None:
    """Return the kubeconfig to use; None in a pod without one, where the pod's service account is used.

    In this order: `explicit`; the embedded engine's, when it runs on this machine; the first file of `$KUBECONFIG` that
    exists; `~/.kube/config`. Raises Unavailable when there is nothing to talk to, and when an embedded engine was
    stopped and nothing else was named: a job meant for this machine must not go to whatever kubectl used last.
    """
    if explicit:
        path = Path(explicit).expanduser()
        if not path.is_file():
            raise Unavailable(f"The kubeconfig {explicit!r} does not exist.", hint="Check the path given.")
        return path
    home = Home(default_home())
    if _is_there(home.kubeconfig) and _is_there(home.supervisor_socket):
        return home.kubeconfig
    named = [Path(p).expanduser() for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    for path in named:
        if _is_there(path):
            return path
    if _is_there(home.kubeconfig):
        raise Unavailable(
            "Headrace is not running on this machine.",
            hint="Start it again with: headrace up. Or name another cluster with --kubeconfig FILE.",
        )
    usual = Path("~/.kube/config").expanduser()
    if _is_there(usual):
        return usual
    if SERVICE_ACCOUNT_TOKEN.is_file():
        return None
    raise Unavailable(
        "There is no Headrace running here and no kubeconfig.",
        hint="Start one on this machine with: headrace up. Or name a cluster with --kubeconfig FILE.",
    )


def _is_there(path: Path) -> bool:
    """Tell whether the file is there and this user's to read: another user's engine is none of ours."""
    return os.access(path, os.R_OK)


@asynccontextmanager
async def connect(
    kubeconfig: str | None = None, context: str | None = None, *, on_warning: Callable[[str], None] | None = None
) -> AsyncIterator[tuple[Cluster, str]]:
    """Yield a client of the cluster that `kubeconfig_path` finds, and the namespace its credential works in.

    Nothing is sent yet. Raises Unavailable when there is no cluster, InvalidSpec for a kubeconfig that cannot be used.
    """
    from headrace.cluster.remote import RemoteCluster  # slow to import, and not needed with a cluster of one's own

    path = kubeconfig_path(kubeconfig)
    if path is None:
        remote = RemoteCluster.in_cluster()
    else:
        remote = RemoteCluster.from_kubeconfig(path, context=context, on_warning=on_warning)
    async with remote as cluster:
        yield cluster, cluster.namespace
