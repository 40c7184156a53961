"""DataLoad and DataProcess: accepted, so that manifests apply, and refused with a sentence in this version."""
