"""The command as a whole: help, laziness, mistakes, completion, exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.shell_completion import ShellComplete

from headrace import errors
from headrace.cli.main import COMMANDS, EXIT_CODES, LazyGroup, cli, exit_code
from headrace.spec.kinds import PERSISTENT_VOLUME_CLAIM, TRAIN_JOB

from .conftest import Terminal, train_job


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command and subcommand under its full name."""
    with click.Context(cli) as ctx:
        for name in COMMANDS:
            command = LazyGroup.get_command(cli, ctx, name)
            assert command is not None
            yield name, command
            if isinstance(command, click.Group):
                yield from ((f"{name} {sub}", inner) for sub, inner in command.commands.items())


ALL = dict(commands())
HEAVY = (
    "anyio",
    "asyncio",
    "msgspec",
    "yaml",
    "httpx2",
    "sqlalchemy",
    "psutil",
    "structlog",
    "headrace.sdk",
    "headrace.spec",
)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['headrace', '--help']; from headrace.cli.main import cli; cli.main(standalone_mode=False)"
    shown = f"{code}; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True, timeout=60)
    assert "Shortest job:  headrace up && headrace run -- python train.py" in done.stdout
    assert [module for module in done.stderr.split() if module.startswith(HEAVY)] == []


def test_help_names_every_command_with_its_own_words(headrace: Terminal) -> None:
    out = headrace("--help").out
    for name, entry in COMMANDS.items():
        assert f"  {name} " in out
        assert ALL[name].get_short_help_str(200) == entry.help
    assert headrace("-h").out == out


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_help_with_an_example(headrace: Terminal, name: str) -> None:
    said = headrace(*name.split(), "--help")
    assert (said.code, said.err) == (0, "")
    assert f"headrace {name}" in (ALL[name].epilog or "")
    assert "Example" in said.out


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_explained(name: str) -> None:
    for parameter in ALL[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.opts[0]}"


@pytest.mark.parametrize("name", sorted(set(ALL) - {"completion", "datasets"}))
def test_every_command_answers_in_three_formats(name: str) -> None:
    (output,) = [parameter for parameter in ALL[name].params if parameter.name == "output"]
    assert isinstance(output.type, click.Choice)
    assert list(output.type.choices) == ["table", "json", "yaml"]


def test_a_misspelt_command(headrace: Terminal) -> None:
    said = headrace("rnu")
    assert said.code == 2
    assert "There is no command 'rnu'. Did you mean 'run'?" in said.err
    assert "See: headrace --help" in headrace("xyzzy").err


def test_version(headrace: Terminal) -> None:
    assert headrace("--version").out.startswith("headrace 0.")


def test_every_error_has_an_exit_code_of_its_own_kind() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.HeadraceError)
    ]
    found = {kind.__name__: exit_code(kind("x")) for kind in kinds if kind is not errors.HeadraceError}
    assert found == {
        "InvalidSpec": 65, "NotFound": 66, "Conflict": 73, "AlreadyExists": 73, "Denied": 77, "QuotaExceeded": 75,
        "Unavailable": 69, "Expired": 75, "Unsupported": 69, "EngineFailed": 70,
    }  # fmt: skip
    assert all(64 <= code <= 78 for _, code in EXIT_CODES)


# -- completion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(headrace: Terminal, shell: str) -> None:
    assert "_HEADRACE_COMPLETE" in headrace("completion", shell).out


def offered(*words: str) -> list[str]:
    """Return what the shell offers for the last word."""
    completer = ShellComplete(cli, {}, "headrace", "_HEADRACE_COMPLETE")
    return [item.value for item in completer.get_completions(list(words[:-1]), words[-1])]


def test_commands_options_and_kinds_are_offered() -> None:
    assert offered("do") == ["down", "doctor"]
    assert "--workers" in offered("run", "--w")
    assert offered("get", "thin") == ["thinruntimeprofiles", "thinruntimes"]
    assert offered("get", "pods,thinruntimep") == ["pods,thinruntimeprofiles"]


def test_names_are_offered_from_the_cluster(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job("digits-1"), train_job("digits-2"), train_job("other"))
    headrace.fake.seed(TRAIN_JOB, train_job("elsewhere", namespace="vision"))
    headrace.fake.seed(PERSISTENT_VOLUME_CLAIM, {"metadata": {"name": "starfs", "namespace": "default"}})
    assert offered("logs", "dig") == ["digits-1", "digits-2"]
    assert offered("-n", "vision", "why", "") == ["elsewhere"]
    assert offered("why", "-n", "vision", "") == ["elsewhere"]
    assert offered("get", "pvc", "") == ["starfs"]
    assert offered("datasets", "connect", "") == ["starfs"]
    assert offered("get", "nonsense", "") == []


def test_a_cluster_that_is_away_offers_nothing(headrace: Terminal) -> None:
    headrace.fake.fail_next("list", errors.Unavailable("It is down."))
    assert offered("logs", "") == []
