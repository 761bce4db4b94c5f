"""Run a executorch artifact."""
