"""Run a litert artifact."""
