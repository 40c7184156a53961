"""How an HTTPS server of ours runs its application; apart from the façade, because node agents serve too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FACADE_USER = "headrace:facade"
"""Whom the façade's client certificate names, when it calls nodes' agents."""

UVICORN_OPTIONS: Mapping[str, Any] = {
    "http": "httptools",
    "ws": "headrace.engine.facade.websockets:KubernetesWebSockets",
    "lifespan": "off",
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "ws_per_message_deflate": False,
    # A peer that does not read for a while answers no ping either, and is not dead: a pager in front of a forwarded
    # database, a command that ignores its input. Everybody is on this machine, where who dies closes its socket.
    "ws_ping_interval": None,
    # Clients keep idle connections for about 90 s; closing them sooner costs each a TLS handshake (6 ms).
    "timeout_keep_alive": 120,
    # Watches never end by themselves; a server that stops does not wait for them.
    "timeout_graceful_shutdown": 1,
}
"""Of `uvicorn.Config`."""
