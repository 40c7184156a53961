"""Dataset and ThinRuntime: merge with the profile, rendering, status."""
