"""The least webhook there can be, as a peer: written in Go, it answers what it was told to, always the same.

What it adds is what the API server itself does to ask anybody and to carry out the same patch: no webhook adds less.
"""

from __future__ import annotations

import base64
import datetime as dt
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from tests.kubernetes.access import Access
from tests.kubernetes.roles import apply, path_of, removed

from headrace.admission.certificates import issue, make_authority
from headrace.admission.differ import operations
from headrace.install.webhooks import ADMISSION_API

Json = dict[str, Any]
LABEL = "bench.headrace.io/least"
"""Its value is the name of the patch with which the least webhook answers."""
_SOURCE = Path(__file__).parent / "least_webhook" / "main.go"
_LASTS = dt.timedelta(days=1)


def patch_between(without: Json, with_us: Json) -> list[Json]:
    """Return what our webhooks did to a pod, from what the API server answered with and without asking them."""
    return operations(_ours(without), _ours(with_us))


def _ours(pod: Json) -> Json:
    """Leave out what differs between any two pods, and what the API server would refuse to have patched."""
    meta = {key: value for key, value in pod["metadata"].items() if key in {"name", "labels", "annotations"}}
    return {**pod, "metadata": meta, "status": {}}


@contextmanager
def least(access: Access, namespace: str, patches: Mapping[str, list[Json]], directory: Path) -> Iterator[bool]:
    """Have pods of a namespace with the label `LABEL` answered by it; yields False, loudly, without Go."""
    if not shutil.which("go"):
        print("Go is missing: nothing is compared with the least webhook.", file=sys.stderr)
        yield False
        return
    directory.mkdir()
    program, answers = directory / "least", directory / "patches"
    subprocess.run(["go", "build", "-o", program, _SOURCE], check=True)
    answers.mkdir()
    for name, patch in patches.items():
        if patch:
            (answers / name).write_bytes(msgspec.json.encode(patch))
    now = dt.datetime.now(dt.UTC)
    authority = make_authority("least", now, _LASTS)
    pair = issue(authority, ["127.0.0.1"], now, _LASTS)
    (directory / "tls.crt").write_text(pair.certificate)
    (directory / "tls.key").write_text(pair.key)
    command = [program, directory / "tls.crt", directory / "tls.key", answers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = f"https://127.0.0.1:{process.stdout.readline().strip()}"
        trusted = base64.b64encode(authority.certificate.encode()).decode()
        configuration = _configuration(namespace, patches, url, trusted)
        try:
            apply(access, configuration)
            yield True
        finally:
            removed(access, [path_of(configuration)])
            process.kill()


def _configuration(namespace: str, names: Mapping[str, Any], url: str, trusted: str) -> Json:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "*"}
    hooks = [
        {
            "name": f"{name}.least.headrace.io",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": f"{url}/{name}", "caBundle": trusted},
            "rules": [rule],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 10,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "objectSelector": {"matchLabels": {LABEL: name}},
        }
        for name in names
    ]
    kind = "MutatingWebhookConfiguration"
    return {"apiVersion": ADMISSION_API, "kind": kind, "metadata": {"name": "bench-least"}, "webhooks": hooks}
