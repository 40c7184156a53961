"""What the shell offers after TAB beside commands and options: kinds from the code, names from the cluster.

A shell waits for this, so it gives up after a second, and a cluster that is away offers nothing instead of an error.
"""

from __future__ import annotations

from typing import Any

import click

_PATIENCE_S = 1.0


def kinds(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the plural names of all kinds, and the last of several after a comma."""
    from headrace.spec.kinds import ALL_KINDS

    before, comma, word = incomplete.rpartition(",")
    return sorted(f"{before}{comma}{kind.plural}" for kind in ALL_KINDS if kind.plural.startswith(word.lower()))


def jobs(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the jobs of the namespace."""
    return _names(ctx, "trainjobs", incomplete)


def names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the objects of the kind that was typed before."""
    word = ctx.params.get("kind") or ctx.params.get("kinds") or ""
    return _names(ctx, word, incomplete)


def claims(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the claims of the namespace."""
    return _names(ctx, "persistentvolumeclaims", incomplete)


def profiles(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the profiles there are."""
    return _names(ctx, "thinruntimeprofiles", incomplete)


def _names(ctx: click.Context, word: str, incomplete: str) -> list[str]:
    import anyio

    from headrace.cli.session import current_options
    from headrace.errors import HeadraceError
    from headrace.sdk.client import AsyncClient
    from headrace.sdk.manifests import find_kind

    root = ctx.find_root().params  # commands are not called while completing, so nobody has noted these
    chosen = current_options(ctx)
    found: list[str] = []

    async def ask(kind: Any) -> None:
        with anyio.move_on_after(_PATIENCE_S):
            async with AsyncClient.connect(
                kubeconfig=chosen.kubeconfig or root.get("kubeconfig"),
                context=chosen.context or root.get("context"),
                namespace=chosen.namespace or root.get("namespace") or "",
                on_warning=lambda _: None,
            ) as client:
                found.extend(doc.name for doc in await client.list(kind))

    try:
        anyio.run(ask, find_kind(word))
    except (HeadraceError, OSError):
        return []
    return [name for name in found if name.startswith(incomplete)]
