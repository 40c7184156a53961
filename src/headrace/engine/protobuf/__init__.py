"""Reading the core kinds as Kubernetes' Go clients send them: `application/vnd.kubernetes.protobuf`.

Only reading: answers are JSON, which those clients accept. Field numbers come from the published API
(`messages.json.gz`, made by tools/vendor_protobuf.py; Apache-2.0).
"""
