"""`headrace usage`: what was used and what it cost, to the second, and the proof that the bill can be derived again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from operator import itemgetter

import click

from headrace.cli import completing
from headrace.cli.session import cluster_options, emit, everywhere_option, money, output_option, run, table
from headrace.cli.words import MOMENT
from headrace.errors import InvalidSpec
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Json

GROUPINGS = ("span", "job", "pool", "user", "day")


@click.command(epilog="Example:  headrace usage --by pool --since 7d")
@click.option("--by", type=click.Choice(GROUPINGS), default="job", show_default=True, help="One row for each.")
@click.option("--job", default="", metavar="JOB", help="Only this job.", shell_complete=completing.jobs)
@click.option("--pool", default="", metavar="POOL", help="Only this pool.")
@click.option("--user", default="", metavar="USER", help="Only what this user submitted.")
@everywhere_option
@click.option("--since", type=MOMENT, default="", metavar="TIME", help="From then on: 2026-11-01, RFC 3339, or 7d ago.")
@click.option("--until", type=MOMENT, default="", metavar="TIME", help="Before then; as --since.")
@click.option(
    "--replay", is_flag=True, help="Price all metering events again and compare; exits with 1 if they differ."
)
@cluster_options
@output_option
def usage(
    by: str, job: str, pool: str, user: str, everywhere: bool, since: str, until: str, replay: bool, output: str
) -> None:
    """Show what was used and what it cost, to the second.

    Usage counts for the time at which it began.
    """
    if since and until and since >= until:
        raise InvalidSpec(f"--since {since} is not before --until {until}.", hint="Exchange them.")
    if replay and (pool or user or since or until):
        raise InvalidSpec("--replay goes over all of a bill.", hint="Only --job and -A go with it.")

    async def program(client: AsyncClient) -> bool:
        namespace = "" if everywhere else client.namespace
        if replay:
            compared = await client.replay(namespace=namespace, job=job)
            if not emit(compared, output):
                _print_replay(compared)
            return bool(compared["equal"])
        bill = await client.usage(by=by, namespace=namespace, job=job, pool=pool, user=user, since=since, until=until)
        if not emit(bill, output):
            _print_bill(bill, by, with_namespace=everywhere)
        return True

    sys.exit(0 if run(program) else 1)


def _print_bill(bill: Json, by: str, *, with_namespace: bool) -> None:
    rows = bill["rows"]
    if not rows:
        click.echo("Nothing was used in this time.")
        return
    columns: dict[str, Callable[[Json], object]] = {"NAMESPACE": lambda row: row["namespace"]}
    if not with_namespace or by not in {"span", "job"}:
        columns.clear()
    if by == "span":
        columns |= {name.upper(): itemgetter(name) for name in ("pod", "pool", "start")}
    else:
        columns[by.upper()] = itemgetter(by)
    columns["SECONDS"] = lambda row: f"{row['seconds']}{' so far' if by == 'span' and not row['end'] else ''}"
    columns["COST"] = lambda row: money(row["cost"], row["currency"])
    if by == "span":  # the job is in the pod's name, and the end in the seconds: the rest fits a terminal
        columns["SHAPE"] = itemgetter("shape")
    table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])
    click.echo(f"total {' + '.join(_totals(bill))}" + ("" if bill.get("final", True) else " so far"))


def _totals(bill: Json) -> list[str]:
    """Return one sum for each currency; amounts in two of them cannot be added."""
    currencies = list(dict.fromkeys(row["currency"] for row in bill["rows"]))
    if len(currencies) == 1:
        return [money(bill["total"], bill["currency"])]
    return [
        money(sum(Decimal(row["cost"]) for row in bill["rows"] if row["currency"] == currency), currency)
        for currency in currencies
    ]


def _print_replay(compared: Json) -> None:
    equal = compared["equal"]
    click.echo(
        f"billed {money(compared['billed'], compared['currency'])} · replayed from {compared['events']} events "
        f"{money(compared['replayed'], compared['currency'])} · {'equal' if equal else 'DIFFERENT'}"
    )
    for difference in compared.get("differences", []):
        click.echo(f"  {difference}")
