"""Everything a user can type, set, meet or write is documented, and what the pages say exists."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from tests import documented

from headrace.scheduling import decide
from headrace.sdk import AsyncClient, manifests
from headrace.spec.crds import crd
from headrace.spec.defaults import apply_defaults
from headrace.spec.headrace import trainjob
from headrace.spec.kind import Json
from headrace.spec.kinds import HEADRACE_KINDS, PLUGIN_KINDS
from headrace.spec.normalise import normalise
from headrace.spec.validation import validate

ROOT = documented.ROOT
PAGES = documented.PAGES
SOURCES = sorted((ROOT / "src" / "headrace").rglob("*.py"))
AGAIN = "run .venv/bin/python tools/docs.py"


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("docs_tool", ROOT / "tools" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = _tool()
GENERATED: dict[str, str] = TOOL.pages()
COMMANDS: dict[str, click.Command] = dict(TOOL.commands())


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def constants(path: Path) -> Iterator[str]:
    """Yield every text of a source file, docstrings and parts of f-strings included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_what_the_code_says(name: str) -> None:
    assert page(name) == GENERATED[name], AGAIN


def test_no_page_of_a_kind_or_command_is_left_over() -> None:
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs" / "reference").glob("*.md")}
    assert there == {name for name in GENERATED if name.startswith("reference/")}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    _, _, after = page("cli.md").partition(f"### headrace {name}\n")
    section = after.partition("\n### ")[0]
    assert section, f"{name} is not documented; {AGAIN}"
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert option in section, AGAIN


def test_every_error_code_is_documented() -> None:
    text = page("errors.md")
    for kind in TOOL.error_classes():
        assert f"| `{kind.__name__}` | `{kind.code}` | {kind.http_status} |" in text, AGAIN
    text += page("jobs.md")
    raised = {
        code for path in SOURCES for code in re.findall(r'\bcode(?:: str)? ?= ?"([A-Z][A-Za-z]+)"', path.read_text())
    }
    assert {code for code in raised if f"`{code}`" not in text} - {"Error"} == set()


def test_every_phase_outcome_and_reason_of_waiting_is_documented() -> None:
    text = page("jobs.md")
    words = {*get_args(trainjob.Phase), *get_args(trainjob.Outcome)} - {""}
    words |= {value for name, value in vars(decide).items() if name.isupper() and isinstance(value, str)}
    assert len(words) > 15
    assert {word for word in words if f"`{word}`" not in text} == set()


def test_every_variable_of_ours_is_documented_and_exists() -> None:
    pattern = re.compile(r"_?HEADRACE_[A-Z_]*[A-Z]")
    texts = [text for path in SOURCES for text in constants(path)]
    texts += [(ROOT / "examples" / "digits" / "demo.sh").read_text()]
    used = {name for text in texts for name in pattern.findall(text)}
    documented = set(pattern.findall(page("settings.md")))
    assert used == documented


@pytest.mark.parametrize("role", ["controller", "admission"])
def test_every_option_of_a_role_is_documented_and_exists(role: str) -> None:
    command: click.Command = importlib.import_module(f"headrace.roles.{role}").command
    _, _, after = page("settings.md").partition(f"## The {role} on a cluster\n")
    section = after.partition("\n## ")[0]
    options = {option for parameter in command.params for option in parameter.opts}
    assert (
        set(re.findall(r"`(--[a-z-]+)`", "".join(line for line in section.splitlines(True) if line[0] == "|")))
        == options
    )


@pytest.mark.parametrize("kind", [*HEADRACE_KINDS, *PLUGIN_KINDS], ids=str)
def test_every_field_of_our_kinds_is_documented_with_a_sentence(kind: Any) -> None:
    text = page(f"reference/{kind.singular}.md")
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    paths = [path for part in ("spec", "status") for path in leaves(schema["properties"][part], part)]
    assert len(paths) > 10
    for path in paths:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{path}` |")]
        assert row.split("|")[-2].strip(), f"{path} has no description"


def leaves(schema: Json, path: str) -> Iterator[str]:
    """Yield the path of every field below a schema, found independently of what writes the pages."""
    for name, inner in (schema.get("properties") or {}).items():
        yield f"{path}.{name}"
        yield from leaves(inner, f"{path}.{name}")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from leaves(schema["additionalProperties"], f"{path}.<key>")
    if "items" in schema:
        yield from leaves(schema["items"], f"{path}[]")


# -- what pages say exists ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def typed(text: str) -> Iterator[list[str]]:
    """Yield the words of every `headrace` command line in a page: code blocks, and inline code."""
    spans = re.findall(r"`(headrace [^`\n]+)`", text)
    spans += [line.strip().removeprefix("$ ") for line in text.splitlines() if re.match(r"\s*(\$ )?headrace ", line)]
    for span in spans:
        for line in re.split(r"&&|;|\s{3,}| # ", span):
            if line.strip().startswith("headrace "):
                try:
                    yield shlex.split(line.strip())[1:]
                except ValueError:  # a span that is cut in the middle of a quotation
                    continue


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "design.md"], ids=lambda path: path.name)
def test_command_lines_in_pages_exist(path: Path) -> None:
    for words in typed(path.read_text()):
        exists(words, path.name)


def test_command_lines_in_hints_exist() -> None:
    """A hint that names a command which is not there is worse than none."""
    for path in SOURCES:
        for text in constants(path):
            for line in re.findall(r"(?:^|: |with |Run |→ |`)headrace ([a-z][a-z -]*)", text):
                words = line.split()
                if words:
                    exists(words[:1], f"{path.name}: {text[:80]}")


def exists(words: list[str], where: str) -> None:
    """Fail unless the words name a command and options it has."""
    values = {"-n", "--namespace", "--kubeconfig", "--context"}
    while words and words[0] in values:
        words = words[2:]
    if not words or words[0].startswith("-") or words[0].isupper():
        return
    assert words[0] in COMMANDS, f"{where}: there is no command {words[0]!r}"
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    known = {option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"-h", "--help"} | {option for parameter in COMMANDS[words[0]].params for option in parameter.opts}
    own = words[: words.index("--")] if "--" in words else words
    for word in own:
        option = word.partition("=")[0]
        if option.startswith("--") or re.fullmatch(r"-[A-Za-z]", option):
            assert option.split("/")[0] in known, f"{where}: headrace {name} has no {option}"


def test_manifests_in_pages_and_examples_are_accepted() -> None:
    shown = list(documented.manifests())
    for where, document in shown:
        check(document, where)
    assert {kind.name for kind in HEADRACE_KINDS} <= {document["kind"] for _, document in shown}


def check(document: Json, where: str) -> None:
    kind = manifests.kind_of(document)
    body, _ = normalise(kind, document)
    if kind.namespaced:
        body["metadata"].setdefault("namespace", "default")
    if (body.get("spec") or {}).get("code", {}).get("directory"):
        body["spec"]["code"] = {"archive": f"sha256:{'0' * 64}"}
    assert validate(kind, apply_defaults(kind, body)) == [], where


def test_programs_in_pages_compile_and_name_what_there_is() -> None:
    for path in PAGES:
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
            tree = ast.parse(block)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module:
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, alias.name) for alias in node.names), path.name
                is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                if is_call and getattr(node.func.value, "id", "") == "client":  # type: ignore[attr-defined]
                    assert hasattr(AsyncClient, node.func.attr), path.name  # type: ignore[attr-defined]


def test_the_sdk_page_names_every_method() -> None:
    methods = {name for name, value in vars(AsyncClient).items() if callable(value) and not name.startswith("_")}
    text = page("sdk.md")
    assert {
        name for name in methods - {"ref", "upload_code", "worker_pod"} if not re.search(rf"\b{name}\b", text)
    } == set()
