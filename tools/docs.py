"""Writes the reference pages from the code: docs/cli.md, docs/errors.md, docs/reference/*.md.

    .venv/bin/python tools/docs.py

`tests/unit/docs/` fails when a page is not what this makes of the code.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from headrace import errors
from headrace.cli.main import COMMANDS, INTERRUPTED, IO_ERROR, SOFTWARE, LazyGroup, cli, exit_code
from headrace.install import names, node_objects, node_plugin, rbac, users
from headrace.spec.crds import crd
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import FLUID_KINDS, HEADRACE_KINDS, PLUGIN_KINDS, TRAIN_JOB
from headrace.spec.validation.unsupported import UNSUPPORTED

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "headrace"
_NOTE = "<!-- Written by tools/docs.py from the code; change it there. -->\n\n"


def pages() -> dict[str, str]:
    """Return the path of each generated page, relative to docs/, and its text."""
    kinds = {f"reference/{kind.singular}.md": kind_page(kind) for kind in (*HEADRACE_KINDS, *PLUGIN_KINDS)}
    return {
        "cli.md": cli_page(),
        "errors.md": errors_page(),
        **kinds,
        "reference/rights.md": rights_page(),
        "reference/unsupported.md": unsupported_page(),
    }


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def _table(*columns: str) -> str:
    return _row(*columns) + "|" + "---|" * len(columns) + "\n"


# -- rights on a cluster -------------------------------------------------------------------------------------------------

_RIGHTS = (
    ("The controllers, everywhere", "headrace-controller", rbac.CONTROLLER_EVERYWHERE),
    ("The controllers, in projects", rbac.PROJECT_ROLE, rbac.CONTROLLER_IN_PROJECTS),
    ("The controllers, in Headrace's own namespace", "headrace-controller", rbac.CONTROLLER_AT_HOME),
    ("Admission, everywhere", "headrace-admission", rbac.ADMISSION_EVERYWHERE),
    ("Admission, in projects", rbac.PROJECT_READER, rbac.ADMISSION_IN_PROJECTS),
    ("Admission, in Headrace's own namespace", "headrace-admission", rbac.ADMISSION_AT_HOME),
    ("The volume driver, everywhere", names.DRIVER_ROLE, node_plugin.DRIVER_EVERYWHERE),
    ("A node that joined by `headrace node`, everywhere", names.JOINED_NODE_ROLE, node_objects.JOINED_NODE_EVERYWHERE),
    ("Users with Kubernetes' role edit or admin, where they have it", users.EDIT, users.USERS_EDIT),
    ("Users with Kubernetes' role view, edit or admin, where they have it", users.VIEW, users.USERS_VIEW),
    ("Everybody who is logged in", users.CATALOGUE, users.EVERYBODY_READS),
)


def rights_page() -> str:
    """Return what Headrace's own processes may do on a cluster."""
    text = _NOTE + (
        "# Rights on a cluster\n\nWhat Headrace's processes may do, and nothing else; and what its users may. A project is a namespace with the label "
        "`headrace.io/project` and the two RoleBindings `headrace-project` and `headrace-project-reader`; without them nothing "
        "in it is changed, and none of its Secrets is read. Nobody reads the Secrets of a whole cluster, and nobody may exec "
        "into anything. The controllers and joined nodes are also bound to `extension-apiserver-authentication-reader` in `kube-system`; joined nodes have a kubelet's rights besides (Node authorizer).\n\n"
    )
    for title, role, rules in _RIGHTS:
        text += f"## {title}\n\nRole `{role}`.\n\n" + _table("group", "resources", "verbs", "only those named")
        for entry in rules:
            group = entry["apiGroups"][0] or "core"
            names = ", ".join(f"`{name}`" for name in entry.get("resourceNames", ()))
            text += _row(group, ", ".join(entry["resources"]), ", ".join(entry["verbs"]), names)
        text += "\n"
    return text.rstrip() + "\n"


# -- command line --------------------------------------------------------------------------------------------------------

_CLI_HEAD = """# The command line

`headrace COMMAND --help` says the same as this page. Commands that talk to a cluster take `-n/--namespace`,
`--kubeconfig` and `--context` before or after their name. Without `--kubeconfig` they talk to the engine that runs on
this machine, else to the first file of `$KUBECONFIG`, else to `~/.kube/config`; in a pod without one, as its service
account. An engine that was started here and is stopped is not replaced by `~/.kube/config`: name the cluster then.

`-o table` is for people. `-o json` and `-o yaml` hold whole objects, exact amounts and nothing else; several objects are
a `List`, which `headrace apply -f -` and `kubectl` read. Warnings and hints go to standard error.

Times are `45s`, `10m`, `1h30m`, `3d`; moments are RFC 3339, a day such as `2026-11-01` (UTC), or how long ago.

`eval "$(headrace completion bash)"` makes the shell complete commands, options, kinds, and names from the cluster.

"""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command and subcommand with its full name, in the order of `headrace --help`."""
    group = cli
    assert isinstance(group, LazyGroup)
    with click.Context(cli) as ctx:
        for name in COMMANDS:
            command = group.get_command(ctx, name)
            assert command is not None
            yield name, command
            if isinstance(command, click.Group):
                yield from ((f"{name} {inner}", command.commands[inner]) for inner in sorted(command.commands))


def cli_page() -> str:
    """Return every command with its options and an example, and the exit codes."""
    text = _NOTE + _CLI_HEAD
    section = ""
    for name, command in commands():
        entry = COMMANDS[name.split()[0]]
        if entry.section != section:
            section = entry.section
            text += f"## {section}\n\n"
        text += _command(name, command)
    return text + _exit_codes()


def _command(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"headrace {name}", max_content_width=1000, terminal_width=1000)
    with context as ctx:
        usage = " ".join(["headrace", name, *command.collect_usage_pieces(ctx)])
        text = f"### headrace {name}\n\n    {usage}\n\n{inspect.cleandoc(command.help or '')}\n\n"
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        rows = [record for option in options if (record := option.get_help_record(ctx)) is not None]
    if rows:
        text += _table("option", "") + "".join(_row(f"`{option}`", words) for option, words in rows) + "\n"
    examples = [line for line in re.split(r"Examples?:\s+|\s{3,}", command.epilog or "") if line]
    return text + "".join(f"    {example}\n" for example in examples) + "\n"


def _exit_codes() -> str:
    text = "## Exit codes\n\n`run` and `exec` pass on the job's or the command's own code. Otherwise, as in sysexits.h:\n\n"
    text += _table("code", "means")
    known: dict[int, list[str]] = {}
    for kind in error_classes():
        known.setdefault(exit_code(kind("")), []).append(kind.__name__)
    said = {
        0: "done",
        1: "`doctor` found an error, a replay differs, a job failed without a code of its own",
        2: "the command was not written as it must be",
        3: "`status`: nothing runs",
        IO_ERROR: "a file could not be read or written; the disk may be full",
        INTERRUPTED: "Ctrl-C; a job that was followed goes on",
        **{code: ", ".join(f"[`{name}`](errors.md)" for name in names) for code, names in known.items()},
    }
    assert SOFTWARE in said
    return text + "".join(_row(code, said[code]) for code in sorted(said))


# -- errors --------------------------------------------------------------------------------------------------------------

_ERRORS_HEAD = """# Errors

Every error has a stable code for programs and a sentence for people: what happened, why, and what to try. The code is the
`reason` of a Kubernetes Status, the HTTP status its `code`; the SDK raises the class of that name from `headrace.errors`,
and a command prints the sentence and ends with the exit code. Causes (`details.causes`) name each field by its path.

"""


class Code(NamedTuple):
    """A code as it is set somewhere in the source."""

    code: str
    base: str
    meaning: str


def error_classes() -> list[type[errors.HeadraceError]]:
    """Return the classes of the one tree of errors, in the order of the file."""
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return [kind for kind in found if issubclass(kind, errors.HeadraceError) and kind is not errors.HeadraceError]


def errors_page() -> str:
    """Return the tree of errors with codes, and the codes that parts of Headrace set beneath it."""
    text = _NOTE + _ERRORS_HEAD + _table("class", "code", "HTTP", "exit code", "means")
    for kind in error_classes():
        doc = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
        text += _row(f"`{kind.__name__}`", f"`{kind.code}`", kind.http_status, exit_code(kind("")), doc)
    text += "\nMore precise codes, each an error of the class beside it:\n\n" + _table("code", "class", "means")
    return text + "".join(_row(f"`{found.code}`", f"`{found.base}`", found.meaning) for found in precise_codes())


MEANINGS = {
    "BadRequest": "The call itself cannot be understood, or asks for what is not there yet, such as a log.",
    "VolumeUnhealthy": "A mount does not answer; nothing is started over it until it does.",
    "Unauthorized": "There is no valid credential at all.",
    "PoolGone": "The Pool a job was placed on was deleted.",
}
"""What codes mean that are set in several places, or whose sentences alone would not say it."""


def precise_codes() -> list[Code]:
    """Return the codes that the source sets, beyond those of the tree itself."""
    trees = [ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "errors.py"]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {"HeadraceError", *(kind.__name__ for kind in error_classes())}
    classes = [node for node in nodes if isinstance(node, ast.ClassDef) and _base(node, names)]
    parents = {node.name: _base(node, names) for node in classes}
    found = {code.code: code for node in classes for code in _class_codes(node, parents)}
    for node in nodes:
        for code in _call_codes(node, names, parents):
            found.setdefault(code.code, code)
    known = {kind.code for kind in error_classes()}
    meant = {code: one._replace(meaning=MEANINGS.get(code, one.meaning)) for code, one in found.items()}
    return [meant[code] for code in sorted(meant) if code not in known]


def _base(node: ast.ClassDef, names: set[str]) -> str:
    return next((base.id for base in node.bases if isinstance(base, ast.Name) and base.id in names), "")


def _class_codes(node: ast.ClassDef, parents: dict[str, str]) -> Iterator[Code]:
    """Yield the code that a class beneath the tree sets for all its errors."""
    for line in node.body:
        if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "code":
            meaning = (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")
            yield Code(str(getattr(line.value, "value", "")), parents[node.name], meaning)


def _call_codes(node: ast.AST, names: set[str], parents: dict[str, str]) -> Iterator[Code]:
    """Yield the code that a single error is raised with."""
    if (
        not isinstance(node, ast.Call)
        or not isinstance(node.func, ast.Name)
        or node.func.id not in names | set(parents)
    ):
        return
    for word in node.keywords:
        if word.arg == "code" and isinstance(word.value, ast.Constant):
            code = str(word.value.value)
            meaning = _sentence(node.args[0] if node.args else word.value)
            yield Code(code, parents.get(node.func.id, node.func.id), meaning)


def _sentence(node: ast.AST) -> str:
    """Return the sentence of a call as it is written, with an ellipsis for what is filled in."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    words = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts]
    return "".join(words)


# -- kinds ---------------------------------------------------------------------------------------------------------------

EXAMPLES = {
    "TrainJob": """apiVersion: headrace.io/v1alpha1
kind: TrainJob
metadata: {name: digits}
spec:
  code: {directory: .}
  command: [python, train.py, --data, /data]
  workers: 2
  resources: {cpu: 2, memory: 4Gi}
  env: {EPOCHS: "5", TOKEN: {secret: hf, key: token}}
  mounts:
    - {claim: starfs-pvc, path: /data, readOnly: true}
    - {claim: outputs, path: /out}
  expectedDuration: 2h
""",
    "Pool": """apiVersion: headrace.io/v1alpha1
kind: Pool
metadata: {name: cloud}
spec:
  kind: serverless
  capacity: {cpu: 64, memory: 256Gi, "gpu/A100": 16}
  nodes: {tolerations: [{key: virtual-kubelet.io/provider, operator: Exists}]}
  gpus: {A100: {resource: nvidia.com/gpu}}
  dataAccess: {mode: broker}
  price:
    currency: USD
    startsAt: Pull
    rates: {cpu: "0.0000077/s", memory: "0.00000096/GiB-s", "gpu/A100": "2.50/h"}
  line: {bandwidth: 1Gbit/s, pricePerGB: "0.05"}
""",
    "Queue": """apiVersion: headrace.io/v1alpha1
kind: Queue
metadata: {name: research}
spec:
  namespaces: [vision]
  burst: {allow: true, waitPrice: "2.00/h", maxWait: 24h, maxPrice: "4.00/gpu-h"}
  expectedDuration: 2h
""",
}


class Field(NamedTuple):
    """One field of a kind; `path` writes list entries as `[]` and free keys as `<key>`."""

    path: str
    type: str
    default: str
    description: str


def fields(kind: Kind[Any], part: str) -> Iterator[Field]:
    """Yield every field of `spec` or `status`, outer ones first."""
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]
    yield from _inner(schema, part)


def _inner(schema: Json, path: str) -> Iterator[Field]:
    for name, inner in (schema.get("properties") or {}).items():
        where = f"{path}.{name}"
        default = inner.get("default")
        written = (
            ""
            if default in (None, "", [], {})
            else f"`{default}`".replace("`True`", "`true`").replace("`False`", "`false`")
        )
        yield Field(where, _type(inner), written, str(inner.get("description") or "As in Kubernetes."))
        yield from _below(inner, where)


def _below(schema: Json, path: str) -> Iterator[Field]:
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _below_or_inner(schema["additionalProperties"], f"{path}.<key>")
    elif schema.get("items"):
        yield from _below_or_inner(schema["items"], f"{path}[]")
    else:
        yield from _inner(schema, path)


def _below_or_inner(schema: Json, path: str) -> Iterator[Field]:
    yield from _inner(schema, path) if schema.get("properties") else _below(schema, path)


def _type(schema: Json) -> str:
    if schema.get("enum"):
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"] if value != "")
    if schema.get("items"):
        return f"list of {_type(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    return str(schema.get("type") or "text or number")


def kind_page(kind: Kind[Any]) -> str:
    """Return a kind's purpose, an example, and each of its fields."""
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    scope = "in a namespace" if kind.namespaced else "for the whole cluster"
    names = ", ".join(f"`{name}`" for name in (kind.plural, kind.singular, *kind.short_names))
    text = f"{_NOTE}# {kind.name}\n\n{schema['description']}\n\n`{kind.api_version}`, {scope}; {names}.\n\n"
    example = EXAMPLES.get(kind.name)
    text += (
        f"```yaml\n{example}```\n\n" if example else f"No user writes one; `kubectl get {kind.plural}` shows them.\n\n"
    )
    ignored = {row.path.replace("[*]", "[]"): row.instead for row in UNSUPPORTED.get(kind.name, ())}
    for part in ("spec", "status"):
        text += f"## {part}\n\n" + _table("field", "type", "default", "")
        for field in fields(kind, part):
            words = [field.description]
            if field.path in ignored:
                words.append(f"**Not carried out yet**: `{field.path.rpartition('.')[2]}` {ignored[field.path]}.")
            text += _row(f"`{field.path}`", field.type, field.default, " ".join(words))
        text += "\n"
    return text.rstrip() + "\n"


def unsupported_page() -> str:
    """Return the table of fields that are accepted and not carried out."""
    text = _NOTE + (
        "# Fields that are not carried out\n\nThese fields are accepted, so that manifests written for Fluid or for a later "
        "version apply. Whoever sets one is told: as a warning when the object is written, and as the condition "
        "`Unsupported` on it. Values in the last column ask for nothing that is missing. What is marked *held* is not begun\n"
        "while it asks for that: it would do something else than was asked.\n\n"
    )
    order = [kind.name for kind in (*HEADRACE_KINDS, *FLUID_KINDS)]
    for name in sorted(UNSUPPORTED, key=lambda name: (order.index(name) if name in order else len(order), name)):
        text += f"## {name}\n\n" + _table("field", "", "fine")
        for row in UNSUPPORTED[name]:
            fine = ", ".join(f"`{str(value).lower()}`" for value in row.fine)
            text += _row(f"`{row.path.replace('[*]', '[]')}`", f"{row.instead}{' (*held*)' if row.holds else ''}", fine)
        text += "\n"
    return text.rstrip() + "\n"


def main() -> None:
    for name, text in pages().items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"{path.relative_to(ROOT)} written\n")


if __name__ == "__main__":
    assert TRAIN_JOB in HEADRACE_KINDS
    main()
