"""The key of an installation: one Secret in its namespace, made by whichever replica comes first."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from headrace.cluster.protocol import Cluster
from headrace.errors import AlreadyExists, EngineFailed, NotFound
from headrace.install.names import KEY_SECRET
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import SECRET

_ENTRY = "code"
_KEY_BYTES = 32


async def installation_key(cluster: Cluster, namespace: str) -> bytes:
    """Return the key that code tokens are derived from; the same for every replica, and after every restart."""
    ref = Ref(namespace, KEY_SECRET)
    try:
        return _key(await cluster.get(SECRET, ref))
    except NotFound:
        pass
    text = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    body = {"metadata": {"name": ref.name, "namespace": namespace}, "type": "Opaque", "data": {_ENTRY: text}}
    try:
        return _key(await cluster.create(SECRET, body))
    except AlreadyExists:
        return _key(await cluster.get(SECRET, ref))


def _key(secret: Doc[Any]) -> bytes:
    try:
        key = base64.b64decode((secret.raw.get("data") or {})[_ENTRY])
    except (KeyError, ValueError) as error:
        raise EngineFailed(f"Secret {secret.ref} has no key in it.", hint="Delete it; a new one is made.") from error
    if len(key) < _KEY_BYTES:
        raise EngineFailed(f"The key in Secret {secret.ref} is too short.", hint="Delete it; a new one is made.")
    return key
