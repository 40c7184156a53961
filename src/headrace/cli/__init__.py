"""The command line: what people type. A client of the SDK; only `up`, `down` and `doctor` touch this machine."""
