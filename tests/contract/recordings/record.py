"""Record what a real kube-apiserver answers to the sequences:

    KUBECONFIG=... python -m tests.contract.recordings.record [part of a sequence's name]

Writes `answers.json` beside this file. The server needs no node, and no controllers but those of namespaces and service
accounts; with a part of a name, only those sequences are recorded anew. It makes the definitions of Headrace's kinds and
one of its own, and a namespace for each sequence, which it deletes again. Tests compare the engine with the answers.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from tests.contract.recordings.chance import BY_CHANCE
from tests.contract.recordings.kinds import OF_KINDS
from tests.contract.recordings.making import GADGET_DEFINITION, WIDGET_DEFINITION
from tests.contract.recordings.sequences import OF_OWNERS
from tests.contract.recordings.steps import Step, play

from headrace.ids import name_suffix
from headrace.spec.crds import crd
from headrace.spec.kinds import DATASET, TRAIN_JOB

ANSWERS = Path(__file__).with_name("answers.json")
ALL = {**OF_OWNERS, **OF_KINDS, **BY_CHANCE}
_SECOND_S = 1.02


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    known: dict[str, Any] = json.loads(ANSWERS.read_text())["answers"] if ANSWERS.exists() else {}
    with _client(Path(os.environ["KUBECONFIG"])) as client:
        version = client.get("/version").json()["gitVersion"]
        for definition in (WIDGET_DEFINITION, GADGET_DEFINITION, crd(DATASET), crd(TRAIN_JOB)):
            _install(client, definition)
        for name, steps in ALL.items():
            if wanted in name:
                print(name, flush=True)
                known[name] = _recorded(client, steps)
    known = {name: known[name] for name in ALL if name in known}
    text = json.dumps({"server": version, "answers": known}, indent=1, sort_keys=True, ensure_ascii=False)
    ANSWERS.write_text(text + "\n")


def _recorded(client: httpx2.Client, steps: list[Step]) -> list[dict[str, Any]]:
    namespace = f"sequence-{name_suffix()}"
    _done(client.post("/api/v1/namespaces", json={"metadata": {"name": namespace}}))
    _await(client, f"/api/v1/namespaces/{namespace}/serviceaccounts/default")

    def send(step: Step, content: bytes | None) -> tuple[int, Any]:
        time.sleep(_SECOND_S)
        headers = {"content-type": step.content_type, "user-agent": step.agent}
        answer = client.request(step.method, step.path, content=content, headers=headers)
        return answer.status_code, answer.json()

    try:
        return play(steps, namespace, send)
    finally:
        client.delete(f"/api/v1/namespaces/{namespace}")


def _install(client: httpx2.Client, definition: dict[str, Any]) -> None:
    name = definition["metadata"]["name"]
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    headers = {"content-type": "application/apply-patch+yaml"}
    _done(client.patch(f"{path}?fieldManager=recorder&force=true", json=definition, headers=headers))
    spec = definition["spec"]
    _await(client, f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}")
    time.sleep(3 * _SECOND_S)  # what is served is not yet typed for applies


def _await(client: httpx2.Client, path: str) -> None:
    for _ in range(100):
        if client.get(path).is_success:
            return
        time.sleep(0.1)
    sys.exit(f"{path} is not served")


def _done(answer: httpx2.Response) -> None:
    if not answer.is_success:
        sys.exit(answer.text)


def _client(path: Path) -> httpx2.Client:
    config = msgspec.yaml.decode(path.read_bytes())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    headers = {"authorization": f"Bearer {user['token']}"}
    return httpx2.Client(base_url=cluster["server"], verify=trust, headers=headers, trust_env=False, timeout=30)


if __name__ == "__main__":
    main()
