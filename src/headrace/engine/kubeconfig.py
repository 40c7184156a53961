"""Writes the kubeconfig with which kubectl, the SDK and the node agents find the façade."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec

from headrace.keyfiles import write_private


def write(path: Path, *, server: str, authority: str, token: str, user: str, namespace: str = "default") -> None:
    """Put a kubeconfig of one context at `path`, mode 0600, atomically. Everything it needs is inside.

    Args:
        server: URL of the façade, such as `https://127.0.0.1:6443`.
        authority: PEM text of the certificate authority.
        token: bearer token of `user`.
        namespace: what kubectl uses without `-n`.
    """
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "headrace",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority.encode()).decode(),
                },
            }
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "headrace", "context": {"cluster": "headrace", "user": user, "namespace": namespace}}],
        "current-context": "headrace",
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, msgspec.yaml.encode(content))
