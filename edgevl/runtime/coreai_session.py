"""Run a coreai artifact."""
