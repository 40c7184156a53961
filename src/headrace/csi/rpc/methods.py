"""From a service's description to handlers: one coroutine a method, `headrace.errors` answered as gRPC codes.

Codes as CSI has them (container-storage-interface/spec, spec.md, "Error Scheme"); the sentence is the message, which
the kubelet shows in the pod's FailedMount event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from headrace.errors import (
    Conflict,
    Denied,
    HeadraceError,
    InvalidSpec,
    NotFound,
    QuotaExceeded,
    Unavailable,
    Unsupported,
)
from headrace.telemetry import logger

CALL_REFUSED = "csi.call_refused"
CALL_FAILED = "csi.call_failed"

Method = Callable[[Any], Awaitable[Message]]

_CODES: tuple[tuple[type[HeadraceError], grpc.StatusCode], ...] = (
    (InvalidSpec, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Denied, grpc.StatusCode.PERMISSION_DENIED),
    (QuotaExceeded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Conflict, grpc.StatusCode.ABORTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (Unsupported, grpc.StatusCode.INVALID_ARGUMENT),
)
# Of a world and its broker, which know no tree of errors.
_CODES_BY_NAME = {
    "Conflict": grpc.StatusCode.ABORTED,
    "Invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "Limit": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "NotFound": grpc.StatusCode.NOT_FOUND,
    "Timeout": grpc.StatusCode.UNAVAILABLE,
}

_log = logger(component="csi")


def status_of(error: HeadraceError) -> grpc.StatusCode:
    """Return the code of an error: what the caller can do about it decides, as in our own tree."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return _CODES_BY_NAME.get(error.code, grpc.StatusCode.INTERNAL)


def handlers(service: ServiceDescriptor, methods: Mapping[str, Method]) -> grpc.GenericRpcHandler:
    """Return what serves `service`; methods that are not given are UNIMPLEMENTED.

    Args:
        methods: by the name in the description, such as `NodePublishVolume`.
    """
    described = service.methods_by_name
    return grpc.method_handlers_generic_handler(
        service.full_name, {name: _handler(described[name], method) for name, method in methods.items()}
    )


def _handler(described: MethodDescriptor, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
    async def answer(request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
        try:
            return await method(request)
        except HeadraceError as error:
            code = status_of(error)
            _log.info(CALL_REFUSED, method=described.name, code=code.name, error=str(error))
            await context.abort(code, str(error))
        except Exception:  # noqa: BLE001 - a bug in one call must not take the others along
            _log.exception(CALL_FAILED, method=described.name)
            await context.abort(grpc.StatusCode.INTERNAL, f"{described.name} failed; the driver's log says why.")

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=GetMessageClass(described.input_type).FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
