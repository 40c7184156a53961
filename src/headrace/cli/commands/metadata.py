"""`label` and `annotate`: metadata of objects."""

from __future__ import annotations

from collections.abc import Mapping

import click

from headrace.cli import completing, targets
from headrace.cli.session import cluster_options, emit, object_list, output_option, run
from headrace.errors import InvalidSpec
from headrace.sdk.client import AsyncClient

_WORDS = "KIND NAME KEY=VALUE|KEY-..."


@click.command(epilog="Example:  headrace label pvc starfs-pvc fluid.io/runtime-profile=starfs-profile")
@click.argument("words", nargs=-1, required=True, metavar=_WORDS, shell_complete=completing.kinds)
@cluster_options
@output_option
def label(words: tuple[str, ...], output: str) -> None:
    """Set or remove labels.

    KEY=VALUE sets, KEY- removes.
    """
    named, pairs = _split(words)
    _set(named, "labelled", output, labels=pairs)


@click.command(epilog="Example:  headrace annotate pvc starfs-pvc headrace.io/pools=own,cloud")
@click.argument("words", nargs=-1, required=True, metavar=_WORDS, shell_complete=completing.kinds)
@cluster_options
@output_option
def annotate(words: tuple[str, ...], output: str) -> None:
    """Set or remove annotations.

    KEY=VALUE sets, KEY- removes.
    """
    named, pairs = _split(words)
    _set(named, "annotated", output, annotations=pairs)


def _set(
    named: list[targets.Target],
    done: str,
    output: str,
    *,
    labels: Mapping[str, str | None] = {},
    annotations: Mapping[str, str | None] = {},
) -> None:
    async def program(client: AsyncClient) -> None:
        changed = []
        for kind, name in named:
            doc = await client.set_metadata(kind, name, labels=labels, annotations=annotations)
            changed.append(doc.raw)
            if output == "table":
                click.echo(f"{kind.singular}/{name} {done}")
        emit(changed[0] if len(changed) == 1 else object_list(changed), output)

    run(program)


def _split(words: tuple[str, ...]) -> tuple[list[targets.Target], dict[str, str | None]]:
    """Return the objects and the pairs; pairs begin with the first word that can be one."""
    count = next((i for i, word in enumerate(words) if i and _is_pair(word)), len(words))
    if not words[count:]:
        raise InvalidSpec("There is nothing to set.", hint="KEY=VALUE sets, KEY- removes.")
    return targets.named(words[:count]), dict(_pair(word) for word in words[count:])


def _is_pair(word: str) -> bool:
    return "=" in word or word.endswith("-")


def _pair(word: str) -> tuple[str, str | None]:
    key, equals, value = word.partition("=")
    if equals and key:
        return key, value
    if word.endswith("-") and len(word) > 1 and not equals:
        return word[:-1], None
    raise InvalidSpec(f"{word!r} is neither KEY=VALUE nor KEY-.", hint="KEY=VALUE sets, KEY- removes.")
