"""Asking a driver whether it is ready, as its container's liveness probe does.

python -m headrace.csi.rpc.check unix:///csi/csi.sock      exit code 0: yes; 1: no, with one sentence
"""

from __future__ import annotations

import sys

import grpc

from headrace.csi.rpc.schema import csi_pb2
from headrace.csi.rpc.serve import socket_path


def check(endpoint: str, timeout_s: float = 8.0) -> str:
    """Return the sentence why the driver at `endpoint` cannot mount now, empty when it can."""
    with grpc.insecure_channel(f"unix://{socket_path(endpoint)}") as channel:
        probe: grpc.UnaryUnaryMultiCallable[csi_pb2.ProbeRequest, csi_pb2.ProbeResponse] = channel.unary_unary(
            "/csi.v1.Identity/Probe",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=csi_pb2.ProbeResponse.FromString,
        )
        try:
            probe(csi_pb2.ProbeRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return str(error.details()) if isinstance(error, grpc.Call) else str(error)
    return ""


def main(arguments: list[str]) -> int:
    """Check; prints why not on stderr."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m headrace.csi.rpc.check ENDPOINT\n")
        return 2
    why_not = check(arguments[0])
    sys.stderr.write(f"{why_not}\n" if why_not else "")
    return 1 if why_not else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
