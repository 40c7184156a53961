"""`headrace datasets`: what data there is, and connecting a claim's data to every pool."""

from __future__ import annotations

from typing import Any

import click

from headrace.cli import completing
from headrace.cli.session import (
    again,
    cluster_options,
    emit,
    everywhere_option,
    object_list,
    output_option,
    run,
    table,
)
from headrace.cli.words import DURATION
from headrace.errors import Denied, NotFound
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import DATASET, THIN_RUNTIME_PROFILE


@click.group(
    invoke_without_command=True, epilog="Example:  headrace datasets connect starfs-pvc --profile starfs-profile"
)
@click.pass_context
def datasets(ctx: click.Context) -> None:
    """List datasets; connect a claim's data to every pool."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_, everywhere=False, output="table")


@datasets.command(name="list", epilog="Example:  headrace datasets list -o json")
@everywhere_option
@cluster_options
@output_option
def list_(everywhere: bool, output: str) -> None:
    """List datasets with where their mount was really tried."""

    async def program(client: AsyncClient) -> None:
        found = await client.list(DATASET, namespace="" if everywhere else client.namespace)
        if emit(object_list([doc.raw for doc in found]), output):
            return
        if not found:
            where = "" if everywhere else f" in namespace {client.namespace}"
            click.echo(
                f"There are no datasets{where}. Connect one: {again('datasets connect CLAIM --profile PROFILE')}"
            )
            return
        table(("NAMESPACE", "NAME", "PHASE", "VERIFIED", "MESSAGE"), [_row(doc) for doc in found])

    run(program)


def _row(doc: Doc[Any]) -> tuple[str, ...]:
    conditions: list[Json] = doc.status.get("conditions") or []
    verified: Json = next((c for c in conditions if c.get("type") == "MountVerified"), {})
    phase = str(doc.status.get("phase") or "NotBound")
    return (
        doc.namespace,
        doc.name,
        phase,
        str(verified.get("status") or "–"),
        str(verified.get("message") or _reason(conditions)),
    )


def _reason(conditions: list[Json]) -> str:
    """Return the last word on what is wrong, for a dataset whose mount has not been tried yet."""
    return next((c["message"] for c in reversed(conditions) if c.get("status") == "False" and c.get("message")), "")


@datasets.command(epilog="Example:  headrace datasets connect starfs-pvc --profile starfs-profile")
@click.argument("claim", shell_complete=completing.claims)
@click.option(
    "--profile",
    required=True,
    metavar="NAME",
    help="The ThinRuntimeProfile that knows this storage.",
    shell_complete=completing.profiles,
)
@cluster_options
@output_option
def connect(claim: str, profile: str, output: str) -> None:
    """Label a claim, so that its data can be reached from pools without its CSI driver too.

    The label is also the consent that the data may leave your own machines. Repeating it changes nothing.
    """

    async def program(client: AsyncClient) -> None:
        await _check_profile(client, profile)
        doc = await client.connect_dataset(claim, profile)
        if not emit(doc.raw, output):
            click.echo(f"persistentvolumeclaim/{claim} connected with profile {profile}")
            click.echo(f"  → see whether it can be mounted: {again(f'datasets wait {claim}')}")

    run(program)


@datasets.command(epilog="Example:  headrace datasets wait starfs-pvc --timeout 1m")
@click.argument("names", nargs=-1, required=True, metavar="CLAIM...", shell_complete=completing.claims)
@click.option("--timeout", type=DURATION, default="5m", show_default=True, metavar="TIME", help="How long for each.")
@cluster_options
@output_option
def wait(names: tuple[str, ...], timeout: float, output: str) -> None:
    """Wait until the data of claims has really been listed in every pool it may go to."""

    async def program(client: AsyncClient) -> None:
        found = []
        for claim in names:
            doc = await client.wait_for_dataset(claim, timeout_s=timeout)
            found.append(doc.raw)
            if output == "table":
                click.echo(f"persistentvolumeclaim/{claim} verified (dataset {doc.name}): {_row(doc)[-1]}")
        emit(object_list(found), output)

    run(program)


async def _check_profile(client: AsyncClient, profile: str) -> None:
    try:
        await client.get(THIN_RUNTIME_PROFILE, profile)
    except Denied:
        return  # whoever may label claims need not be allowed to read profiles
    except NotFound as error:
        names = sorted(doc.name for doc in await client.list(THIN_RUNTIME_PROFILE))
        known = (
            f"There are: {', '.join(names)}."
            if names
            else "There is none yet; apply one, see docs/storage-profiles.md."
        )
        raise NotFound(f"There is no ThinRuntimeProfile {profile!r}.", hint=known) from error
