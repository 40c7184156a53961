"""Writes `deploy/` from the code: what `headrace install` applies, for those who use kustomize.

    .venv/bin/python tools/deploy.py

`tests/unit/install/` fails when a file is not what this makes of the code.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from headrace.install.installation import DEFAULT_IMAGE, Installation
from headrace.install.objects import parts
from headrace.spec.kind import Json

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
_NOTE = "# Written by tools/deploy.py from the code; change it there.\n"
_SAID = """#
#     kubectl apply --server-side -k deploy
#
# is what `headrace install` does with its defaults; see docs/install.md. Name your image below, or in an overlay.
"""


class _Dumper(yaml.SafeDumper):
    """Writes what is the same object twice out twice: nobody reads anchors gladly."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def files() -> dict[str, str]:
    """Return the name of each file in deploy/ and its text."""
    found = {f"{name}.yaml": _NOTE + _text(bodies) for name, bodies in parts(Installation()).items()}
    name, _, tag = DEFAULT_IMAGE.rpartition(":")
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(found),
        "images": [{"name": name, "newName": name, "newTag": tag}],
        # The controllers are told their own image, for the workers' init containers.
        "replacements": [
            {
                "source": {
                    "kind": "Deployment",
                    "name": "headrace-controller",
                    "fieldPath": "spec.template.spec.containers.[name=controller].image",
                },
                "targets": [
                    {
                        "select": {"kind": "Deployment", "name": "headrace-controller"},
                        "fieldPaths": ["spec.template.spec.containers.[name=controller].args.3"],
                    }
                ],
            }
        ],
    }
    return {"kustomization.yaml": _NOTE + _SAID + yaml.dump(kustomization, Dumper=_Dumper, sort_keys=False), **found}


def _text(bodies: list[Json]) -> str:
    return yaml.dump_all(bodies, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def main() -> None:
    """Write what differs and say so; remove what is no more."""
    DEPLOY.mkdir(exist_ok=True)
    wanted = files()
    for path in DEPLOY.iterdir():
        if path.name not in wanted:
            path.unlink()
            sys.stdout.write(f"deploy/{path.name} removed\n")
    for name, text in wanted.items():
        path = DEPLOY / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"deploy/{name} written\n")


if __name__ == "__main__":
    main()
