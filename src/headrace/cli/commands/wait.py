"""`headrace wait`: for scripts, instead of sleeping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from headrace.cli import completing, targets
from headrace.cli.session import cluster_options, emit, object_list, output_option, run
from headrace.cli.words import DURATION
from headrace.errors import Conflict, InvalidSpec
from headrace.sdk import jobs
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Doc
from headrace.spec.kinds import TRAIN_JOB

Goal = Callable[[Doc[Any] | None], bool]


@click.command(epilog="Example:  headrace wait dataset/starfs-pvc --for condition=MountVerified --timeout 1m")
@click.argument("words", nargs=-1, required=True, metavar="KIND/NAME", shell_complete=completing.kinds)
@click.option(
    "--for", "goal", required=True, metavar="GOAL", help="condition=TYPE[=STATUS], phase=PHASE[,PHASE] or delete."
)
@click.option("--timeout", type=DURATION, default="5m", show_default=True, metavar="TIME", help="How long at most.")
@cluster_options
@output_option
def wait(words: tuple[str, ...], goal: str, timeout: float, output: str) -> None:
    """Wait for a condition, a phase or a deletion.

    The object need not exist yet. Ends with code 69 when the time is over, and with 73 when a job has ended otherwise.
    """
    named = targets.named(words)
    reached = _goal(goal)

    async def program(client: AsyncClient) -> None:
        found = []
        for kind, name in named:
            doc = await client.wait(kind, name, lambda doc: reached(doc) or _is_hopeless(doc, goal), timeout_s=timeout)
            if not reached(doc):
                assert doc is not None
                raise Conflict(
                    f"{kind.name} {name} has ended as {jobs.phase(doc)} and will not get there{jobs.last_words(doc)}.",
                    hint=f"See: headrace show {name}",
                )
            found.append(doc.raw if doc is not None else {})
            if output == "table":
                click.echo(f"{kind.singular}/{name} {goal.partition('=')[2] or 'deleted'}")
        emit(found[0] if len(found) == 1 else object_list(found), output)

    run(program)


def _is_hopeless(doc: Doc[Any] | None, goal: str) -> bool:
    """Tell whether nothing will change any more: a job that has ended for good gets no new phase or condition."""
    return goal != "delete" and doc is not None and doc.kind is TRAIN_JOB and jobs.is_finished(doc)


def _goal(goal: str) -> Goal:
    what, _, rest = goal.partition("=")
    if what == "delete" and not rest:
        return lambda doc: doc is None
    if what == "phase" and rest:
        phases = {phase.strip().lower() for phase in rest.split(",")}
        return lambda doc: doc is not None and str(doc.status.get("phase", "")).lower() in phases
    if what == "condition" and rest:
        type_, _, status = rest.partition("=")
        wanted = (type_.lower(), (status or "True").lower())
        return lambda doc: doc is not None and _has_condition(doc, wanted)
    raise InvalidSpec(f"--for {goal!r} is not a goal.", hint="Write condition=TYPE, phase=PHASE or delete.")


def _has_condition(doc: Doc[Any], wanted: tuple[str, str]) -> bool:
    """Tell whether a condition is as wanted, and about the object as it is now rather than before its last change."""
    return any(
        (str(c.get("type", "")).lower(), str(c.get("status", "")).lower()) == wanted
        and c.get("observedGeneration", doc.generation) >= doc.generation
        for c in doc.status.get("conditions") or []
    )
