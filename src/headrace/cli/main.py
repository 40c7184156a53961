"""The `headrace` command: global options, lazy loading of commands, and errors as one sentence with an exit code."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any, NamedTuple

import click

from headrace.errors import Conflict, Denied, HeadraceError, InvalidSpec, NotFound, Unavailable, Unsupported


class Entry(NamedTuple):
    """Where a command lives and what `headrace --help` says of it without importing it."""

    module: str
    help: str
    section: str


COMMANDS: dict[str, Entry] = {
    "up": Entry("machine", "Start Headrace on this machine.", "This machine"),
    "down": Entry("machine", "Stop it; nothing stays behind but your data.", "This machine"),
    "doctor": Entry("machine", "Check what this machine can do, and print cures.", "This machine"),
    "status": Entry("machine", "Show the processes of `up`.", "This machine"),
    "run": Entry("run", "Run a training job and follow it.", "Jobs"),
    "ps": Entry("jobs", "List jobs with place, state, time and cost.", "Jobs"),
    "why": Entry("jobs", "Say why a job waits, and what each choice would cost.", "Jobs"),
    "logs": Entry("jobs", "Print or follow the output of a job's workers.", "Jobs"),
    "exec": Entry("jobs", "Run a command in a worker.", "Jobs"),
    "stop": Entry("jobs", "Stop a job; it keeps its results and its bill.", "Jobs"),
    "show": Entry("show", "Show a job: what you wrote, where and how it ran.", "Jobs"),
    "datasets": Entry("datasets", "List datasets; connect a claim's data to every pool.", "Data"),
    "usage": Entry("usage", "Show what was used and what it cost, to the second.", "Money"),
    "apply": Entry("objects", "Create or change objects from files.", "Objects"),
    "get": Entry("objects", "Print objects.", "Objects"),
    "describe": Entry("objects", "Print one object with its conditions and events.", "Objects"),
    "label": Entry("objects", "Set or remove labels.", "Objects"),
    "annotate": Entry("objects", "Set or remove annotations.", "Objects"),
    "delete": Entry("objects", "Delete objects.", "Objects"),
    "wait": Entry("objects", "Wait for a condition, a phase or a deletion.", "Objects"),
    "completion": Entry("completion", "Print the completion script of your shell.", "Shell"),
}

# Exit codes follow sysexits.h where it has a word for it; a job's own code is passed through by `run`.
EXIT_CODES: tuple[tuple[type[HeadraceError], int], ...] = (
    (InvalidSpec, 65),
    (NotFound, 66),
    (Unavailable, 69),
    (Unsupported, 69),
    (Conflict, 73),
    (Denied, 77),
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"headrace.cli.commands.{entry.module}")
        command: click.Command = getattr(module, "exec_" if cmd_name == "exec" else cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl([(n, e.help) for n, e in COMMANDS.items() if e.section == section])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " See: headrace --help"
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


class Options(NamedTuple):
    """What the global options said."""

    kubeconfig: str | None
    context: str | None
    namespace: str


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Shortest job:  headrace up && headrace run -- python train.py",
)
@click.option("--kubeconfig", metavar="FILE", help="Another cluster than this machine's.")
@click.option("--context", metavar="NAME", help="A context of the kubeconfig.")
@click.option("-n", "--namespace", default="default", show_default=True, envvar="HEADRACE_NAMESPACE", metavar="NAME")
@click.version_option(package_name="headrace", message="headrace %(version)s")
@click.pass_context
def cli(ctx: click.Context, kubeconfig: str | None, context: str | None, namespace: str) -> None:
    """Headrace runs AI jobs on your own machines first and in the cloud at peak, with the same data in both."""
    ctx.obj = Options(kubeconfig, context, namespace)


def main() -> None:
    """Entry point: errors become one sentence on stderr and an exit code, never a traceback."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except KeyboardInterrupt:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except HeadraceError as error:
        code = report(error)
    except BaseExceptionGroup as group:
        code = report_group(group)
    sys.exit(code if isinstance(code, int) else 0)


def report(error: HeadraceError) -> int:
    """Print an error as people need it and return the exit code for it."""
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {error.what}", err=True)
    for path, sentence in getattr(error, "causes", ()):
        click.echo(f"  {path}: {sentence}", err=True)
    if error.hint:
        click.echo(f"  → {error.hint}", err=True)
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 70)


def report_group(group: BaseExceptionGroup[BaseException]) -> int:
    """Report the first Headrace error of a task group; re-raise what is none, because that is a bug of ours."""
    known = group.subgroup(HeadraceError)
    if known is None:
        if group.subgroup(KeyboardInterrupt) is not None:
            return 130
        raise group
    first: BaseException = known
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, HeadraceError)
    return report(first)
