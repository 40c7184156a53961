"""What the served kinds look like, from the published Kubernetes OpenAPI and our own CRDs.

`schemas` holds the published part (a trimmed copy, see tools/vendor_openapi.py), `merge_keys` and `fields` answer the
pipeline's questions about it, `document` renders what `/openapi/v3` serves. Nothing here validates Headrace's own
kinds: that is `headrace.spec.validation`.
"""
