"""Serving services on Unix sockets that only root reaches."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

import grpc

from headrace.errors import InvalidSpec, Unavailable

_MOST_CALLS = 64
_GRACE_S = 5.0
_SCHEME = "unix://"


def socket_path(endpoint: str) -> str:
    """Return the path of an endpoint such as `unix:///csi/csi.sock`; a plain absolute path is one too."""
    path = endpoint.removeprefix(_SCHEME).removeprefix("unix:")
    if not path.startswith("/"):
        raise InvalidSpec(f"{endpoint!r} is no Unix socket.", hint="Write unix:///csi/csi.sock.")
    return path


@asynccontextmanager
async def serving(endpoint: str, services: Sequence[grpc.GenericRpcHandler]) -> AsyncGenerator[None, None]:
    """Serve at `endpoint`, replacing a socket that an earlier process left there; removes it afterwards.

    Raises:
        Unavailable: it cannot be listened there.
    """
    path = socket_path(endpoint)
    os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
    with suppress(FileNotFoundError):
        os.unlink(path)
    server = grpc.aio.server(maximum_concurrent_rpcs=_MOST_CALLS)
    server.add_generic_rpc_handlers(list(services))
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"{_SCHEME}{path}")
        await server.start()
    except RuntimeError as error:
        raise Unavailable(f"{endpoint} cannot be listened at: {error}.") from error
    finally:
        os.umask(before)
    try:
        yield
    finally:
        await server.stop(_GRACE_S)
        with suppress(FileNotFoundError):
            os.unlink(path)
