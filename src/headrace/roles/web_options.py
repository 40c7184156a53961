"""How our HTTP servers on a cluster run their applications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLAIN_OPTIONS: Mapping[str, Any] = {
    "http": "httptools",
    "ws": "none",
    "lifespan": "off",
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "timeout_graceful_shutdown": 1,
}
"""Of `uvicorn.Config`, for health and metrics."""

API_OPTIONS: Mapping[str, Any] = {
    **PLAIN_OPTIONS,
    # The API server keeps its connections for 90 s; closing them sooner costs each a TLS handshake (6 ms).
    "timeout_keep_alive": 120,
    # Requests that run have as long as the API server waits for a webhook.
    "timeout_graceful_shutdown": 10,
}
"""Of `uvicorn.Config`, for what the API server calls."""
