"""`up`, `down`, `status`, `doctor`: Headrace on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from headrace.cli.session import emit, output_option, table, warn
from headrace.settings import Home, default_home

NOT_RUNNING = 3
"""Exit code of `status` where nothing runs, as the Linux Standard Base has it for services."""

home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="State directory; $HEADRACE_HOME, else a usual place.",
)


def _home(given: Path | None) -> Home:
    return Home(given.expanduser().absolute() if given is not None else default_home())


@click.command(epilog="Example:  headrace up --own-cpu 2 --cloud-cpu 8")
@home_option
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Port of the API; any free one by default."
)
@click.option("--own-cpu", metavar="CORES", help="CPUs the own pool offers; this machine's by default.")
@click.option("--own-memory", metavar="SIZE", help="Memory the own pool offers; this machine's by default.")
@click.option(
    "--cloud-cpu",
    default="16",
    show_default=True,
    metavar="CORES",
    help="CPUs that may be rented in the cloud pool at once.",
)
@click.option(
    "--cloud-memory",
    default="64Gi",
    show_default=True,
    metavar="SIZE",
    help="Memory that may be rented in the cloud pool at once.",
)
@click.option(
    "--mirror",
    multiple=True,
    metavar="PREFIX=URL",
    help="Where nodes look for images of a registry first, such as docker.io=https://mirror.example; repeatable. Kept until others are given; `none` has none.",
)
@output_option
def up(
    home: Path | None,
    port: int,
    own_cpu: str | None,
    own_memory: str | None,
    cloud_cpu: str,
    cloud_memory: str,
    mirror: tuple[str, ...],
    output: str,
) -> None:
    """Start Headrace on this machine.

    Repeating it tells where it is, and takes over what a killed supervisor left. The cloud pool is here a second node of this machine, without a storage driver, as serverless nodes are.
    """
    from headrace.roles.up import Capacity, start

    place = _home(home)
    try:
        started = start(
            place,
            port=port,
            own=Capacity(own_cpu, own_memory),
            cloud=Capacity(cloud_cpu, cloud_memory),
            mirrors=mirror,
            progress=lambda text: click.echo(text, err=True) if output == "table" else None,
        )
    except KeyboardInterrupt:
        warn("Interrupted; what has started goes on. Stop it: headrace down")
        raise
    if emit(started, output):
        return
    click.echo(
        f"Headrace is up: {started['server']} · pools {', '.join(started['pools'])} · ready in {started['seconds']:.1f} s"
    )
    for warning in started["warnings"]:
        click.echo(f"  ! {warning}")
    click.echo(f"  kubeconfig  {started['kubeconfig']}")
    if place.root != default_home():
        click.echo(f"  for others  export HEADRACE_HOME={place.root}")
    click.echo("  try         headrace run -- echo hello")


@click.command(epilog="Example:  headrace down")
@home_option
@click.option("--purge", is_flag=True, help="Delete the state directory too: all objects, volumes and bills.")
@output_option
def down(home: Path | None, purge: bool, output: str) -> None:
    """Stop it; nothing stays behind but your data.

    No process, mount or lock.
    """
    from headrace.roles.up import purge as remove
    from headrace.roles.up import stop

    place = _home(home)
    was_running = stop(place)
    was_there = place.root.exists()
    if purge and was_there:
        remove(place)
    if emit({"home": str(place.root), "wasRunning": was_running, "purged": purge and was_there}, output):
        return
    click.echo("Headrace is down." if was_running else "Headrace was not running.")
    if purge:
        click.echo(f"{place.root} {'deleted' if was_there else 'was not there'}.")


@click.command(epilog="Example:  headrace status -o json")
@home_option
@output_option
def status(home: Path | None, output: str) -> None:
    """Show the processes of `up`.

    Exits with 3 where there are none.
    """
    from headrace.roles.up import processes

    rows = processes(_home(home))
    if not emit(rows, output):
        if rows:
            columns = ("name", "pid", "state", "restarts", "memory")
            cells = [["–" if row.get(key) is None else row[key] for key in columns] for row in rows]
            table(("PROCESS", "PID", "STATE", "RESTARTS", "MEMORY"), cells)
        else:
            click.echo("Headrace is not running here. Start it: headrace up")
    sys.exit(0 if rows else NOT_RUNNING)


@click.command(epilog="Example:  headrace doctor")
@home_option
@output_option
def doctor(home: Path | None, output: str) -> None:
    """Check what this machine can do, and print cures.

    Everything is really tried. Needs nothing running. Exits with 1 when something keeps Headrace from working here.
    """
    from headrace.roles.doctor import examine

    findings = examine(_home(home))
    if not emit(findings, output):
        signs = {
            "ok": click.style("✔", fg="green"),
            "warning": click.style("!", fg="yellow"),
            "error": click.style("✘", fg="red"),
        }
        for finding in findings:
            click.echo(f"{signs[finding['level']]} {finding['what']}")
            if finding["cure"]:
                click.echo(f"    → {finding['cure']}")
    sys.exit(1 if any(finding["level"] == "error" for finding in findings) else 0)
