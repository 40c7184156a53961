"""Where one Headrace installation keeps its things on this machine.

One state directory holds everything of one embedded engine: object store, ledger, logs, volumes, sockets, keys.
`HEADRACE_HOME` names another one; two directories are two independent installations.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

HOME_VARIABLE = "HEADRACE_HOME"


def default_home() -> Path:
    """Return the state directory: `$HEADRACE_HOME`, else `/var/lib/headrace` for root, else the user's data directory."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/headrace")
    return platformdirs.user_data_path("headrace")


@dataclass(frozen=True)
class Home:
    """The layout of one state directory. Properties only name places; nothing is created here."""

    root: Path

    @property
    def store(self) -> Path:
        """The engine's SQLite file."""
        return self.root / "control" / "objects.db"

    @property
    def ledger(self) -> Path:
        """The ledger's SQLite file."""
        return self.root / "control" / "ledger.db"

    @property
    def code(self) -> Path:
        """Content-addressed code archives, one file a digest."""
        return self.root / "control" / "code"

    @property
    def pki(self) -> Path:
        """Certificate authority, server certificates, token signing key."""
        return self.root / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def nodes(self) -> Path:
        """Homes of the nodes that this machine is in other clusters, one directory each; each is a `Home` of its own."""
        return self.root / "nodes"

    @property
    def identity(self) -> Path:
        """The certificates and keys of a node that has joined a cluster."""
        return self.root / "identity"

    def token(self, user: str) -> Path:
        """The bearer token of one of our own processes' users."""
        return self.root / "run" / f"{user}.token"

    def ready(self, process: str) -> Path:
        """There once the process has said that it is ready; the supervisor takes it away before it starts it."""
        return self.root / "run" / f"{process}.ready"

    @property
    def lock(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.root / "supervisor.lock"

    @property
    def supervisor_socket(self) -> Path:
        return self.root / "run" / "supervisor.sock"

    @property
    def logs(self) -> Path:
        """Headrace's own processes' logs, one file each."""
        return self.root / "logs"

    def world(self, node: str) -> Path:
        """The directory of one node's world: socket, journal, pods, volumes."""
        return self.root / "worlds" / node

    def world_socket(self, node: str) -> Path:
        return self.root / "run" / f"world-{node}.sock"
