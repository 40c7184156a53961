"""`headrace completion`: the script that makes a shell complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(epilog='Example:  eval "$(headrace completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of your shell.

    To have it in every shell, put the example's line into ~/.bashrc or ~/.zshrc; for fish:
    headrace completion fish > ~/.config/fish/completions/headrace.fish
    """
    from headrace.cli.main import cli

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(cli, {}, "headrace", "_HEADRACE_COMPLETE").source())
