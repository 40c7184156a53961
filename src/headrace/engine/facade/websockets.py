"""The server's WebSockets, for subprotocols with a slash in their names.

Kubernetes' `SPDY/3.1+portforward.k8s.io` is no token (RFC 6455, section 11.3.4), so `websockets` answers kubectl with
400 and would not let it be chosen. Here the names are left to the application, which uvicorn gives them anyway.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol


class _Lenient(ServerProtocol):
    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:  # noqa: ARG002 a base class' signature
        return None


class KubernetesWebSockets(WebSocketsSansIOProtocol):
    """`websockets-sansio` of uvicorn; messages are not compressed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Lenient(max_size=self.config.ws_max_size, logger=self.conn.logger)

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # a refusal is an answer; uvicorn would log that there was none
