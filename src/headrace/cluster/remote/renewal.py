"""A client certificate that is renewed while it is in use.

A server looks at a certificate's end with every request, also on a connection that was made before it: so requests go
over new connections after a renewal, and streams that run stay on theirs.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx2

from headrace.cluster.remote.connection import Connection
from headrace.cluster.remote.pipes import Pipes


class RenewableTransport(httpx2.AsyncBaseTransport):
    """Carries requests over the connections of the newest credential.

    Args:
        connection: reads the credential anew, each time it is called.
    """

    def __init__(self, connection: Callable[[], Connection]) -> None:
        self._connection = connection
        self._current = connection().transport()
        self._former: list[Pipes] = []

    async def renew(self) -> None:
        """Use the credential as it is now. Streams on connections from before the last renewal end."""
        former, self._former = self._former, [self._current]
        self._current = self._connection().transport()
        for transport in former:
            await transport.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._current.handle_async_request(request)

    async def aclose(self) -> None:
        for transport in (*self._former, self._current):
            await transport.aclose()
