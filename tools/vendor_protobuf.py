"""Make src/headrace/engine/protobuf/messages.json.gz: the wire numbers of the core kinds' fields.

Kubernetes' own Go clients (1.36 and newer) send the bodies of core kinds as protobuf and do not fall back to JSON, so
the façade has to read them. This takes the numbers from the Go structs of the published API modules, which say more
than their .proto files: which zeros are kept (pointers that were set) and which are inlined in JSON.
Needs Go, only to fetch the modules:

    python tools/vendor_protobuf.py v0.36.3
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from vendor_openapi import POSTED, STORED

TARGET = Path(__file__).parents[1] / "src/headrace/engine/protobuf/messages.json.gz"
META = "k8s.io/apimachinery/pkg/apis/meta/v1"
EXTENSIONS = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
PACKAGES = {
    "": "k8s.io/api/core/v1",
    "admissionregistration.k8s.io": "k8s.io/api/admissionregistration/v1",
    "apiextensions.k8s.io": EXTENSIONS,
    "authentication.k8s.io": "k8s.io/api/authentication/v1",
    "authorization.k8s.io": "k8s.io/api/authorization/v1",
    "coordination.k8s.io": "k8s.io/api/coordination/v1",
    "policy": "k8s.io/api/policy/v1",
    "scheduling.k8s.io": "k8s.io/api/scheduling/v1",
    "storage.k8s.io": "k8s.io/api/storage/v1",
}
SCALARS = {
    **dict.fromkeys(("string", "bool"), ""),
    **dict.fromkeys(("int", "int32", "int64"), "int"),
    "float64": "double",
    "[]byte": "bytes",
    f"{META}.Time": "time",
    f"{META}.MicroTime": "microtime",
    f"{META}.FieldsV1": "json",
    f"{EXTENSIONS}.JSON": "json",
    "k8s.io/apimachinery/pkg/api/resource.Quantity": "quantity",
    "k8s.io/apimachinery/pkg/util/intstr.IntOrString": "int-or-string",
    "k8s.io/apimachinery/pkg/runtime.RawExtension": "json",
    "k8s.io/apimachinery/pkg/types.UID": "string",
    "k8s.io/apimachinery/pkg/types.NodeName": "string",
}
STRUCT = re.compile(r"^type (\w+) struct ?\{(?:\n(.*?)^)?\}", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"^type (\w+) =? ?((?:\[\]|map\[[\w.]+\])?[\w.]+)$", re.MULTILINE)
FIELD = re.compile(r"^\t(?:\w+ +)?([\w.*\[\]]+) +`(.*)`")
IMPORT = re.compile(r'^\t(?:(\w+) )?"([\w./-]+)"$', re.MULTILINE)


class Source:
    """The Go packages, read when first needed."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._packages: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {}

    def package(self, path: str) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """Return the package's struct bodies, its other named types, and what its files import, by alias."""
        if path not in self._packages:
            text = "\n".join(file.read_text() for file in sorted(self._directory(path).glob("types*.go")))
            imports = {alias or Path(name).name: name for alias, name in IMPORT.findall(text)}
            self._packages[path] = dict(STRUCT.findall(text)), dict(NAMED.findall(text)), imports
        return self._packages[path]

    def _directory(self, path: str) -> Path:
        module = "/".join(path.split("/")[:2])
        command = ["go", "mod", "download", "-json", f"{module}@{self._version}"]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, cwd="/").stdout)
        return Path(answer["Dir"]) / path.removeprefix(module).lstrip("/")


class Messages:
    """Collects messages by full name; each field is `[number, JSON name (empty: inlined), type, keeps a zero]`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.found: dict[str, list[list[Any]]] = {}

    def add(self, path: str, name: str) -> str:
        full = f"{path}.{name}"
        if full not in self.found:
            self.found[full] = []
            body = self._source.package(path)[0][name]
            fields = (FIELD.match(line) for line in body.splitlines())
            self.found[full] = [
                self._field(path, *field.groups()) for field in fields if field and "protobuf:" in field[2]
            ]
        return full

    def _field(self, path: str, go_type: str, tags: str) -> list[Any]:
        number = int(re.search(r'protobuf:"\w+,(\d+)', tags)[1])  # type: ignore[index]
        named = re.search(r'json:"([^",]*)', tags)
        json_name = named[1] if named else ""  # an embedded struct may have no tag at all
        keeps_zero = go_type.startswith("*") or ",omitempty" not in tags
        return [number, json_name, self._type(path, go_type.removeprefix("*")), keeps_zero]

    def _type(self, path: str, go_type: str) -> str:
        """Return a scalar's name, a message's, or `[]` or `{}` before that of what a list or map holds."""
        if go_type in SCALARS:
            return SCALARS[go_type] or go_type
        if go_type.startswith("[]"):
            return "[]" + self._type(path, go_type[2:].removeprefix("*"))
        if go_type.startswith("map["):
            return "{}" + self._type(path, go_type.partition("]")[2])
        if "." in go_type:
            alias, _, go_type = go_type.partition(".")
            path = self._source.package(path)[2][alias]
            if f"{path}.{go_type}" in SCALARS:
                return SCALARS[f"{path}.{go_type}"]
        if f"{path}.{go_type}" in SCALARS:
            return SCALARS[f"{path}.{go_type}"]
        structs, named, _ = self._source.package(path)
        if go_type in structs:
            return self.add(path, go_type)
        inner = self._type(path, named[go_type])
        # A list or map inside a list or map is a message of its own on the wire (authentication's ExtraValue).
        return f"wrapped {inner}" if go_type == "ExtraValue" else inner


def main(version: str) -> None:
    messages = Messages(Source(version))
    kinds = {f"/{name}": messages.add(META, name) for name in ("DeleteOptions", "Status")}
    for served in (STORED, POSTED):
        for (group, group_version), names in served.items():
            prefix = f"{group}/{group_version}" if group else group_version
            kinds |= {f"{prefix}/{name}": messages.add(PACKAGES[group], name) for name in names}
    table = {"version": version, "kinds": kinds, "messages": messages.found}
    text = json.dumps(table, separators=(",", ":"), sort_keys=True).encode()
    TARGET.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{TARGET}: {len(messages.found)} messages, {len(text)} bytes, {TARGET.stat().st_size} compressed")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else sys.exit("usage: vendor_protobuf.py VERSION, such as v0.36.3"))
