"""How pods of one pool get at data: one file a mode, one interface (`modes.mode.Mode`)."""
