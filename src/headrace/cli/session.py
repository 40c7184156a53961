"""How a command gets a client and prints an answer: shared options and the three output formats."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import anyio
import click

from headrace.cli.main import Options
from headrace.sdk.client import AsyncClient

R = TypeVar("R")

output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True, help="Format."
)


def run(program: Callable[[AsyncClient], Awaitable[R]], options: Options | None = None) -> R:
    """Run an async program with a client made from the global options, to its end."""
    chosen = options or click.get_current_context().find_object(Options) or Options(None, None, "default")

    async def session() -> R:
        async with AsyncClient.connect(
            kubeconfig=chosen.kubeconfig, context=chosen.context, namespace=chosen.namespace
        ) as client:
            return await program(client)

    return anyio.run(session, backend_options={"use_uvloop": False})


def emit(value: Any, output: str) -> bool:
    """Print `value` as JSON or YAML and return True; return False for `table`, which the caller prints itself."""
    if output == "json":
        click.echo(json.dumps(value, indent=2, default=str))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
    else:
        return False
    return True


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> None:
    """Print rows under headings, padded as kubectl does; nothing is cut, so that it can be copied."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(r[i]) for r in [list(columns), *cells]) for i in range(len(columns))]
    for row in [list(columns), *cells]:
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo((indent + line).rstrip())


def money(amount: object, currency: str = "USD") -> str:
    """Return an amount for a person: four digits below a cent's reach, two above."""
    from decimal import Decimal

    value = Decimal(str(amount))
    digits = 2 if value == 0 or abs(value) >= 1 else 4 if abs(value) >= Decimal("0.001") else 7
    return f"{value:.{digits}f} {currency}"
