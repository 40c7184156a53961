"""Follows whose client certificates a cluster takes: what a kubelet is told with `--client-ca-file`.

The API server publishes its own in ConfigMap `kube-system/extension-apiserver-authentication`; reading it needs the
Role `extension-apiserver-authentication-reader` there.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from headrace.api.front_proxy import CONFIGURATION
from headrace.cluster.cache import Cache
from headrace.cluster.protocol import Cluster, Scope
from headrace.spec.kind import Doc
from headrace.spec.kinds import CONFIG_MAP
from headrace.telemetry import logger

CHANGED = "client_authority.changed"
UNUSABLE = "client_authority.unusable"
_KEY = "client-ca-file"


class ClientAuthority:
    """Tells `trust` the authorities' certificates (PEM) whenever they change; empty where the cluster takes none.

    Args:
        trust: raises `ssl.SSLError` for what is no certificate, and then goes on with what it had.
        say: given the sentence why nobody can come with a certificate, and an empty one when somebody can.
    """

    def __init__(self, cluster: Cluster, trust: Callable[[str], None], say: Callable[[str], None]) -> None:
        self._trust = trust
        self._say = say
        self._told: str | None = None
        where = Scope(namespace=CONFIGURATION.namespace, fields=f"metadata.name={CONFIGURATION.name}")
        self._cache = Cache(cluster, {CONFIG_MAP: where})
        self._cache.subscribe(CONFIG_MAP, self._changed)

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._cache.run()

    def _changed(self, _old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        if new is None:  # the API server makes it anew at once
            return
        found = str((new.raw.get("data") or {}).get(_KEY) or "")
        if found == self._told:
            return
        try:
            self._trust(found)
        except ssl.SSLError as error:
            logger().warning(UNUSABLE, config_map=str(CONFIGURATION), key=_KEY, error=str(error))
            self._say(f"{_KEY} of ConfigMap {CONFIGURATION} cannot be used: {error}. The last one is.")
            return
        self._told = found
        logger().info(CHANGED, is_there=bool(found))
        self._say(
            "" if found else f"ConfigMap {CONFIGURATION} has no {_KEY}: callers need a token, also the API server."
        )
