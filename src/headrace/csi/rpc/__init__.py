"""CSI's gRPC edge of the driver, and the kubelet's plugin registration: the only part of Headrace that knows gRPC.

Messages come from `schema`, which is generated (tools/vendor_csi.py). Needs the extra `headrace[kubernetes]`.
"""
