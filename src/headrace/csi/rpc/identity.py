"""Who the driver is: CSI's Identity service, and the Registration service by which a kubelet finds the driver.

Sources: container-storage-interface/spec, spec.md, "Identity Service RPC"; k8s.io/kubelet,
pkg/apis/pluginregistration/v1. Registering ourselves saves the sidecar node-driver-registrar, which does no more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from google.protobuf.wrappers_pb2 import BoolValue

import headrace
from headrace.csi.rpc.methods import handlers
from headrace.csi.rpc.schema import csi_pb2, pluginregistration_pb2
from headrace.errors import Unavailable
from headrace.spec.names import CSI_DRIVER
from headrace.telemetry import logger

if TYPE_CHECKING:
    import grpc

REGISTERED = "csi.registered"
REGISTRATION_REFUSED = "csi.registration_refused"
_CSI_VERSION = "1.0.0"

_log = logger(component="csi")


def identity(why_not_ready: Callable[[], Awaitable[str]]) -> grpc.GenericRpcHandler:
    """Return the Identity service.

    Args:
        why_not_ready: returns the sentence why nothing can be mounted now, empty when it can.
    """

    async def get_plugin_info(_request: csi_pb2.GetPluginInfoRequest) -> csi_pb2.GetPluginInfoResponse:
        return csi_pb2.GetPluginInfoResponse(name=CSI_DRIVER, vendor_version=headrace.__version__)

    async def get_plugin_capabilities(
        _request: csi_pb2.GetPluginCapabilitiesRequest,
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        return csi_pb2.GetPluginCapabilitiesResponse()  # no controller: volumes are pods' own, or made by hand

    async def probe(_request: csi_pb2.ProbeRequest) -> csi_pb2.ProbeResponse:
        why_not = await why_not_ready()
        if why_not:
            raise Unavailable(why_not)
        return csi_pb2.ProbeResponse(ready=BoolValue(value=True))

    return handlers(
        csi_pb2.DESCRIPTOR.services_by_name["Identity"],
        {"GetPluginInfo": get_plugin_info, "GetPluginCapabilities": get_plugin_capabilities, "Probe": probe},
    )


def registration(endpoint: str, refused: Callable[[str], None]) -> grpc.GenericRpcHandler:
    """Return the Registration service.

    Args:
        endpoint: the path of the driver's socket, as the kubelet sees it.
        refused: called with the kubelet's reason when it does not take the driver.
    """

    async def get_info(_request: pluginregistration_pb2.InfoRequest) -> pluginregistration_pb2.PluginInfo:
        return pluginregistration_pb2.PluginInfo(
            type="CSIPlugin", name=CSI_DRIVER, endpoint=endpoint, supported_versions=[_CSI_VERSION]
        )

    async def notify(
        request: pluginregistration_pb2.RegistrationStatus,
    ) -> pluginregistration_pb2.RegistrationStatusResponse:
        if request.plugin_registered:
            _log.info(REGISTERED, endpoint=endpoint)
        else:
            _log.error(REGISTRATION_REFUSED, error=request.error)
            refused(request.error)
        return pluginregistration_pb2.RegistrationStatusResponse()

    return handlers(
        pluginregistration_pb2.DESCRIPTOR.services_by_name["Registration"],
        {"GetInfo": get_info, "NotifyRegistrationStatus": notify},
    )
