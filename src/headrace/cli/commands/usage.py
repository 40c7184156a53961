"""`headrace usage`: what was used and what it cost, to the second, and the proof that the bill can be derived again."""

from __future__ import annotations

import click

from headrace.cli.session import emit, money, output_option, run, table
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Json


@click.command(epilog="Example:  headrace usage --by pool --since 2026-11-01T00:00:00Z")
@click.option("--by", type=click.Choice(["span", "job", "pool", "user", "day"]), default="job", show_default=True)
@click.option("--job", default="", help="Only this job.")
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("--since", default="", metavar="TIME", help="RFC 3339.")
@click.option("--until", default="", metavar="TIME", help="RFC 3339.")
@click.option("--replay", is_flag=True, help="Price all metering events again and compare.")
@output_option
def usage(by: str, job: str, all_namespaces: bool, since: str, until: str, replay: bool, output: str) -> None:
    """Show what was used and what it cost, to the second."""

    async def program(client: AsyncClient) -> None:
        filters = {"namespace": "" if all_namespaces else client.namespace, "job": job, "since": since, "until": until}
        if replay:
            compared = await client.replay(**filters)
            if not emit(compared, output):
                _print_replay(compared)
            return
        bill = await client.usage(by=by, **filters)
        if not emit(bill, output):
            _print_bill(bill, by)

    run(program)


def _print_bill(bill: Json, by: str) -> None:
    rows = bill["rows"]
    if not rows:
        click.echo("Nothing was used in this time.")
        return
    if by == "span":
        table(
            ("JOB", "POD", "POOL", "START", "END", "SECONDS", "SHAPE", "COST"),
            [
                (
                    r["job"],
                    r["pod"],
                    r["pool"],
                    r["start"],
                    r["end"] or "running",
                    r["seconds"],
                    r["shape"],
                    money(r["cost"], r["currency"]),
                )
                for r in rows
            ],
        )
    else:
        table(
            (by.upper(), "SECONDS", "COST"),
            [(r[by], r["seconds"], money(r["cost"], r["currency"])) for r in rows],
        )
    click.echo(f"total {money(bill['total'], bill['currency'])}" + ("" if bill.get("final", True) else " so far"))


def _print_replay(compared: Json) -> None:
    equal = compared["equal"]
    click.echo(
        f"billed {money(compared['billed'], compared['currency'])} · replayed from {compared['events']} events "
        f"{money(compared['replayed'], compared['currency'])} · {'equal' if equal else 'DIFFERENT'}"
    )
    for difference in compared.get("differences", []):
        click.echo(f"  {difference}")
