"""Addresses instead of names, for pods without namespaces: they have no /etc/hosts of their own to look a name up in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anyio

_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.1


async def with_addresses(variables: Mapping[str, str], subdomain: str, hosts: Path) -> dict[str, str]:
    """Return `variables` with every value that is a name in the pod's subdomain replaced by its address.

    Waits for names that the pod's hosts file does not have yet, as a gang's pods come one after the other; one that
    does not come in time stays a name.
    """
    wanted = {value for value in variables.values() if subdomain and f".{subdomain}" in value and _is_name(value)}
    known: dict[str, str] = {}
    with anyio.move_on_after(_WITHIN_S):
        while wanted - set(known):
            known = read_hosts(await anyio.Path(hosts).read_text())
            if wanted - set(known):
                await anyio.sleep(_LOOK_EVERY_S)
    return {name: known.get(value, value) if value in wanted else value for name, value in variables.items()}


def read_hosts(text: str) -> dict[str, str]:
    """Return the address of every name in the text of a hosts file; the first line that has a name counts."""
    known: dict[str, str] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            known.setdefault(name, address)
    return known


def _is_name(value: str) -> bool:
    return all(part and part.replace("-", "").isalnum() for part in value.split("."))
