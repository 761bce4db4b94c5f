"""Run a tensorrt artifact."""
