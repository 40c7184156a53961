"""How a command gets a client and prints an answer: cluster options, the three output formats, tables, money."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headrace.cli.main import Options

if TYPE_CHECKING:
    from headrace.sdk.client import AsyncClient

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True, help="Format."
)
everywhere_option = click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Look in every namespace.")


def cluster_options(command: F) -> F:
    """Take -n, --kubeconfig and --context after the command's name too, where most people write them."""
    return _kept(command, *_CONNECTION, _NAMESPACE)


def connection_options(command: F) -> F:
    """Take --kubeconfig and --context there: for commands that work in no namespace, or have their own --namespace."""
    return _kept(command, *_CONNECTION)


_Option = tuple[tuple[str, ...], str, str]
_CONNECTION: tuple[_Option, ...] = (
    (("--context",), "NAME", "A context of the kubeconfig."),
    (("--kubeconfig",), "FILE", "Another cluster than this machine's."),
)
_NAMESPACE: _Option = (("-n", "--namespace"), "NAME", "Namespace to work in; that of the context by default.")


def _kept(command: F, *options: _Option) -> F:
    def keep(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.obj = current_options(ctx)._replace(**{str(parameter.name): value})

    for names, metavar, text in options:
        option = click.option(
            *names,
            metavar=metavar,
            help=text,
            expose_value=False,
            callback=keep,
            hidden=names[0] != "-n",
        )
        command = option(command)
    return command


def current_options(ctx: click.Context | None = None) -> Options:
    """Return what the options before and after the command's name said."""
    found = (ctx or click.get_current_context()).find_object(Options)
    return found or Options()


def run(program: Callable[[AsyncClient], Awaitable[R]]) -> R:
    """Run an async program with a client of the chosen cluster, to its end. Warnings of the server go to stderr.

    Raises KeyboardInterrupt when Ctrl-C ended it, after everything in it was cancelled and cleaned up.
    """
    import asyncio  # 0.1 s with the SDK, that commands of this machine need not pay

    import anyio

    from headrace.sdk.client import AsyncClient

    chosen = current_options()
    interrupted = False

    async def session() -> R:
        nonlocal interrupted
        try:
            async with AsyncClient.connect(
                kubeconfig=chosen.kubeconfig,
                context=chosen.context,
                namespace=chosen.namespace or "",
                on_warning=warn,
            ) as client:
                return await program(client)
        except BaseException:
            # Whatever the interrupted step made of being cancelled, such as an answer that did not come.
            task = asyncio.current_task()
            interrupted = task is not None and task.cancelling() > 0
            raise

    try:
        return anyio.run(session)
    except BaseException:
        if interrupted:  # what comes out of the event loop then depends on who was cancelled first
            raise KeyboardInterrupt from None
        raise


def warn(text: str) -> None:
    """Print what the user should know although the command goes on."""
    click.echo(f"{click.style('!', fg='yellow', bold=True)} {text}", err=True)


def again(words: str) -> str:
    """Return a command line to suggest, aimed at the same cluster and namespace as this one."""
    chosen = current_options()
    given = (("--kubeconfig", chosen.kubeconfig), ("--context", chosen.context), ("-n", chosen.namespace))
    return " ".join(["headrace", *(f"{option} {value}" for option, value in given if value), words])


def emit(value: Any, output: str) -> bool:
    """Print `value` as JSON or YAML and return True; return False for `table`, which the caller prints itself."""
    if output == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
    else:
        return False
    return True


def object_list(items: Sequence[Any]) -> dict[str, Any]:
    """Return objects as one document that `apply -f -` and kubectl can read."""
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


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
