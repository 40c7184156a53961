"""What whoever installs may choose. Everything else about an installation follows from it."""

from __future__ import annotations

import re

import msgspec

from headrace.errors import InvalidSpec
from headrace.spec.names import SYSTEM_NAMESPACE

DEFAULT_IMAGE = "headrace:latest"
DATABASE_KEY = "url"
"""The entry of the database's Secret that holds its URL."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,55}[a-z0-9])?")
_HOST_AND_PORT = re.compile(r"([^:\s]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """One installation.

    Args:
        namespace: where Headrace itself lives.
        image: of all its processes.
        database_secret: a Secret there, whose entry `url` is a PostgreSQL URL; empty keeps the ledger in SQLite.
        storage_class: of the claim for SQLite; empty takes the cluster's default.
        ledger_size: of that claim.
        api_server: HOST:PORT where our pods find the API server; empty is the Service `kubernetes`, as everywhere.
        workloads: whether Headrace's processes run in the cluster; else only what is no process is installed, and the
            controllers run elsewhere (`headrace control`). Without them there are no webhooks.
        nodes: whether the volume driver is installed on nodes.
    """

    namespace: str = SYSTEM_NAMESPACE
    image: str = DEFAULT_IMAGE
    database_secret: str = ""
    storage_class: str = ""
    ledger_size: str = "10Gi"
    api_server: str = ""
    workloads: bool = True
    nodes: bool = True

    @property
    def node_namespace(self) -> str:
        """Where the volume driver lives: it is privileged, and nothing else may be beside it."""
        return f"{self.namespace.removesuffix('-system')}-nodes"

    @property
    def replicas(self) -> int:
        """How many controllers run: a file of SQLite can have one writer only."""
        return 2 if self.database_secret else 1

    def check(self) -> None:
        """Raise InvalidSpec for what cannot be installed."""
        if not _LABEL.fullmatch(self.namespace):
            raise InvalidSpec(f"{self.namespace!r} is no name for a namespace.", hint="Use a-z, 0-9 and -.")
        if not self.image or any(letter.isspace() for letter in self.image):
            raise InvalidSpec(f"{self.image!r} is no image.", hint="Name one: --image registry.example/headrace:1")
        if self.api_server and not _HOST_AND_PORT.fullmatch(self.api_server):
            raise InvalidSpec(f"{self.api_server!r} is no HOST:PORT.", hint="Such as --api-server 10.0.0.1:6443")
        if not self.workloads and (self.database_secret or self.storage_class or self.api_server):
            raise InvalidSpec(
                "--database-secret, --storage-class and --api-server are for processes in the cluster, and none is installed.",
                hint="Give `headrace control` a ledger instead: --ledger URL",
            )
        if self.database_secret and self.storage_class:
            raise InvalidSpec(
                "A storage class is for a ledger in SQLite, and this one is in the Secret's database.",
                hint="Leave out --storage-class or --database-secret.",
            )
