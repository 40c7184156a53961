"""What users write: kinds, typed views, defaults, validation, CRD generation. No I/O anywhere in this package."""
