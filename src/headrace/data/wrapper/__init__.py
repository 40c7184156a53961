"""The PVC wrapper: a labelled claim gets a Dataset and a ThinRuntime behind it."""
