"""`up`, `down`, `status`, `doctor`: Headrace on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from headrace.cli.session import emit, output_option, table
from headrace.settings import Home, default_home

home_option = click.option(
    "--home", type=click.Path(path_type=Path), default=None, help="State directory; $HEADRACE_HOME or a usual place."
)


@click.command(epilog="Example:  headrace up --own-cpu 2 --cloud-cpu 8")
@home_option
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the API; any free one by default.")
@click.option("--own-cpu", help="CPUs the own pool offers; this machine's by default.")
@click.option("--own-memory", help="Memory the own pool offers.")
@click.option("--cloud-cpu", default="16", show_default=True, help="CPUs that may be rented in the cloud pool at once.")
@click.option("--cloud-memory", default="64Gi", show_default=True)
@output_option
def up(
    home: Path | None,
    port: int,
    own_cpu: str | None,
    own_memory: str | None,
    cloud_cpu: str,
    cloud_memory: str,
    output: str,
) -> None:
    """Start Headrace on this machine, or tell that it runs."""
    from headrace.roles.up import Capacity, start

    started = start(
        Home(home or default_home()),
        port=port,
        own=Capacity(own_cpu, own_memory),
        cloud=Capacity(cloud_cpu, cloud_memory),
        progress=lambda text: click.echo(text, err=True) if output == "table" else None,
    )
    if emit(started, output):
        return
    click.echo(
        f"Headrace is up: {started['server']} · pools {', '.join(started['pools'])} · ready in {started['seconds']:.1f} s"
    )
    for warning in started["warnings"]:
        click.echo(f"  ! {warning}")
    click.echo(f"  kubeconfig  {started['kubeconfig']}")
    click.echo("  try         headrace run -- echo hello")


@click.command(epilog="Example:  headrace down")
@home_option
@click.option("--purge", is_flag=True, help="Delete the state directory too: all objects, volumes and bills.")
def down(home: Path | None, purge: bool) -> None:
    """Stop Headrace on this machine; no process, mount or lock stays."""
    from headrace.roles.up import stop

    place = Home(home or default_home())
    was_running = stop(place)
    click.echo("Headrace is down." if was_running else "Headrace was not running.")
    if purge and place.root.exists():
        from headrace.roles.up import purge as remove

        remove(place)
        click.echo(f"{place.root} deleted.")


@click.command(epilog="Example:  headrace status -o json")
@home_option
@output_option
def status(home: Path | None, output: str) -> None:
    """Show the processes of `up`."""
    from headrace.roles.up import processes

    rows = processes(Home(home or default_home()))
    if emit(rows, output):
        return
    if not rows:
        click.echo("Headrace is not running here. Start it: headrace up")
        sys.exit(3)
    table(
        ("PROCESS", "PID", "STATE", "RESTARTS", "MEMORY"),
        [[r[k] for k in ("name", "pid", "state", "restarts", "memory")] for r in rows],
    )


@click.command(epilog="Example:  headrace doctor")
@home_option
@output_option
def doctor(home: Path | None, output: str) -> None:
    """Check what this machine can do, by really doing it, and print cures."""
    from headrace.roles.doctor import examine

    findings = examine(Home(home or default_home()))
    bad = any(finding["level"] == "error" for finding in findings)
    if not emit(findings, output):
        signs = {
            "ok": click.style("✔", fg="green"),
            "warning": click.style("!", fg="yellow"),
            "error": click.style("✘", fg="red"),
        }
        for finding in findings:
            click.echo(f"{signs[finding['level']]} {finding['what']}")
            if finding.get("cure"):
                click.echo(f"    → {finding['cure']}")
    sys.exit(1 if bad else 0)
