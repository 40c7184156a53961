"""Typed views of `data.fluid.io/v1alpha1`: every field of CNCF Fluid 1.0, JSON names exactly as there."""
