"""Pure pod building: what a worker's pod looks like before any data is injected into it."""
