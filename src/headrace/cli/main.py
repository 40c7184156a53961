"""The `headrace` command: global options, lazy loading of commands, and errors as one sentence with an exit code."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any, NamedTuple

import click

from headrace.errors import (
    Conflict,
    Denied,
    Expired,
    HeadraceError,
    InvalidSpec,
    NotFound,
    QuotaExceeded,
    Unavailable,
    Unsupported,
)


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
    "install": Entry("install", "Install Headrace in a Kubernetes cluster, or bring it up to date.", "A cluster"),
    "node": Entry("node", "Run this machine as a node of a Kubernetes cluster, until Ctrl-C.", "A cluster"),
    "control": Entry("control", "Run Headrace's controllers on this machine for a cluster, until Ctrl-C.", "A cluster"),
    "run": Entry("run", "Run a training job and follow it.", "Jobs"),
    "ps": Entry("jobs", "List jobs with place, state, time and cost.", "Jobs"),
    "why": Entry("jobs", "Say why a job waits, and what each choice would cost.", "Jobs"),
    "logs": Entry("workers", "Print or follow the output of a job's workers.", "Jobs"),
    "exec": Entry("workers", "Run a command in a worker.", "Jobs"),
    "stop": Entry("jobs", "Stop jobs; they keep their results and their bills.", "Jobs"),
    "show": Entry("show", "Show a job: what you wrote, where and how it ran.", "Jobs"),
    "datasets": Entry("datasets", "List datasets; connect a claim's data to every pool.", "Data"),
    "usage": Entry("usage", "Show what was used and what it cost, to the second.", "Money"),
    "apply": Entry("objects", "Create objects, or change them to what files say.", "Objects"),
    "get": Entry("objects", "Print objects.", "Objects"),
    "describe": Entry("describe", "Print one object with its conditions and events.", "Objects"),
    "label": Entry("metadata", "Set or remove labels.", "Objects"),
    "annotate": Entry("metadata", "Set or remove annotations.", "Objects"),
    "delete": Entry("objects", "Delete objects.", "Objects"),
    "wait": Entry("wait", "Wait for a condition, a phase or a deletion.", "Objects"),
    "completion": Entry("completion", "Print the completion script of your shell.", "Shell"),
}

EXIT_CODES: tuple[tuple[type[HeadraceError], int], ...] = (
    (InvalidSpec, 65),
    (NotFound, 66),
    (Unavailable, 69),
    (Unsupported, 69),
    (Conflict, 73),
    (QuotaExceeded, 75),
    (Expired, 75),
    (Denied, 77),
)
"""As sysexits.h has them; a job's own code is passed through by `run`. EngineFailed and anything new is 70."""

SOFTWARE, IO_ERROR, INTERRUPTED = 70, 74, 130


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
    """Which cluster and namespace was asked for, before or after the command's name."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Shortest job:  headrace up && headrace run -- python train.py",
)
@click.option("--kubeconfig", metavar="FILE", help="Another cluster than this machine's.")
@click.option("--context", metavar="NAME", help="A context of the kubeconfig.")
@click.option(
    "-n",
    "--namespace",
    envvar="HEADRACE_NAMESPACE",
    metavar="NAME",
    help="Namespace to work in; $HEADRACE_NAMESPACE, else that of the context.",
)
@click.version_option(package_name="headrace", message="headrace %(version)s")
@click.pass_context
def cli(ctx: click.Context, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
    """Headrace runs AI jobs on your own machines first and in the cloud at peak, with the same data in both."""
    ctx.obj = Options(kubeconfig, context, namespace)


def main() -> None:
    """Entry point: errors become one sentence on stderr and an exit code; a traceback means a bug of ours."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        code = cli.main(prog_name="headrace", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except HeadraceError as error:
        code = report(error)
    except OSError as error:
        code = _report_os(error)
    except BaseExceptionGroup as group:
        code = report_group(group)
    sys.exit(code if isinstance(code, int) else 0)


def report(error: HeadraceError) -> int:
    """Print an error as people need it and return the exit code for it."""
    what, causes = _apart(error.what, [": ".join(filter(None, cause)) for cause in getattr(error, "causes", ())])
    _print_error(what)
    for cause in causes:
        click.echo(f"  {cause}", err=True)
    if error.hint:
        click.echo(f"  → {error.hint}", err=True)
    return exit_code(error)


def exit_code(error: HeadraceError) -> int:
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), SOFTWARE)


def _apart(what: str, causes: list[str]) -> tuple[str, list[str]]:
    """Return the sentence and the causes to print below it; servers put them into the sentence too."""
    if len(causes) > 1 and "; ".join(causes) in what:
        return what.replace("; ".join(causes), "").rstrip(" .:") + ":", causes
    return what, [cause for cause in causes if cause not in what]


def _report_os(error: OSError) -> int:
    """A full disk, a directory that may not be written: the system's own word for it is the sentence."""
    where = f"{error.filename}: " if error.filename else ""
    _print_error(f"{where}{error.strerror or error}.")
    return IO_ERROR


def _print_error(sentence: str) -> None:
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {sentence}", err=True)


def report_group(group: BaseExceptionGroup[BaseException]) -> int:
    """Report the first Headrace error of a task group; re-raise what is none, because that is a bug of ours."""
    known = group.subgroup(HeadraceError)
    if known is None:
        if group.subgroup(KeyboardInterrupt) is not None:
            return INTERRUPTED
        raise group
    first: BaseException = known
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, HeadraceError)
    return report(first)
