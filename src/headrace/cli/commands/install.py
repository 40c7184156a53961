"""`headrace install`: Headrace into a Kubernetes cluster, and out of it again."""

from __future__ import annotations

from typing import Any

import click

from headrace.cli.session import connection_options, emit, object_list, run
from headrace.cli.words import DURATION
from headrace.errors import InvalidSpec
from headrace.install import apply as applying
from headrace.install import objects, readiness, removal
from headrace.install.apply import Outcome
from headrace.install.installation import DEFAULT_IMAGE, Installation
from headrace.install.projects import project
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Json
from headrace.spec.names import SYSTEM_NAMESPACE


@click.command(epilog="Example:  headrace install --image registry.example/headrace:1 --project vision")
@click.option("--namespace", default=SYSTEM_NAMESPACE, show_default=True, metavar="NAME", help="Where Headrace lives.")
@click.option("--image", default=DEFAULT_IMAGE, show_default=True, metavar="IMAGE", help="Of all its processes.")
@click.option(
    "--database-secret",
    default="",
    metavar="NAME",
    help="A Secret there whose entry `url` is a PostgreSQL URL, for the ledger; then two controllers run. By default "
    "one runs, with SQLite in a claim.",
)
@click.option("--storage-class", default="", metavar="NAME", help="Of that claim; the cluster's default.")
@click.option("--ledger-size", default="10Gi", show_default=True, metavar="SIZE", help="Of that claim.")
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="NAME",
    help="A namespace, made if missing, in which Headrace shall work; repeatable.",
)
@click.option(
    "--workloads/--no-workloads",
    default=True,
    help="Whether Headrace's processes run in the cluster. Else run the controllers elsewhere: headrace control.",
)
@click.option("--nodes/--no-nodes", default=True, help="Whether the privileged volume driver is put on nodes.")
@click.option(
    "--api-server",
    default="",
    metavar="HOST:PORT",
    help="How its pods reach the API server, where Services do not lead there.",
)
@click.option("--dry-run", is_flag=True, help="Have the server check everything, change nothing.")
@click.option("--force", is_flag=True, help="Take over fields that others have set.")
@click.option("--wait/--no-wait", "waits", default=True, help="Wait until it is ready, where there are nodes.")
@click.option("--timeout", type=DURATION, default="5m", show_default=True, metavar="TIME", help="How long at most.")
@click.option("--uninstall", is_flag=True, help="Take it out again; user data stays.")
@click.option("--purge", is_flag=True, help="With --uninstall: all objects of its kinds and the ledger, too.")
@connection_options
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="json and yaml print what would be applied, and ask no cluster.",
)
def install(
    projects: tuple[str, ...],
    dry_run: bool,
    force: bool,
    waits: bool,
    timeout: float,
    uninstall: bool,
    purge: bool,
    output: str,
    **options: Any,
) -> None:
    """Install Headrace in a Kubernetes cluster, or bring it up to date.

    Repeating it changes nothing. It needs the rights of a cluster administrator. Ends with code 73 when others have set
    what it sets, and with 69 when it is not ready in time.
    """
    installation = Installation(**options)
    installation.check()
    if purge and not uninstall:
        raise InvalidSpec("--purge goes with --uninstall.", hint="headrace install --uninstall --purge")
    prints = output != "table"
    if uninstall and (dry_run or prints):
        raise InvalidSpec("--uninstall goes with neither --dry-run nor -o.", hint="Leave one out.")
    bodies = [
        *objects.objects(installation),
        *(body for name in projects for body in project(name, options["namespace"])),
    ]
    if prints:
        emit(object_list(bodies), output)
    elif uninstall:
        run(lambda client: _uninstall(client, installation, purge=purge))
    else:

        async def program(client: AsyncClient) -> None:
            await applying.check_cluster(client.cluster, installation, dry_run=dry_run)
            if not dry_run:
                await applying.make_namespaces(client.cluster, projects)
            await _install(client, bodies, dry_run, force, timeout if waits else None)

        run(program)


async def _install(
    client: AsyncClient, bodies: list[Json], dry_run: bool, force: bool, timeout_s: float | None
) -> None:
    changed = count = 0
    async for outcome in applying.apply(client.cluster, bodies, dry_run=dry_run, force=force):
        count += 1
        if outcome.what != "unchanged":
            changed += 1
            _tell(outcome, " (dry run)" if dry_run else "")
    click.echo(f"{count} objects, {changed} changed{' (dry run)' if dry_run else ''}.")
    if timeout_s is not None and not dry_run:
        await readiness.await_ready(client.cluster, bodies, click.echo, timeout_s=timeout_s)


async def _uninstall(client: AsyncClient, installation: Installation, *, purge: bool) -> None:
    async for outcome in removal.remove(client.cluster, installation, click.echo, purge=purge):
        _tell(outcome)


def _tell(outcome: Outcome, more: str = "") -> None:
    click.echo(f"{outcome.kind.singular}/{outcome.ref} {outcome.what}{more}")
