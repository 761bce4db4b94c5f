"""From one `torch.export` program to the artifact of every target: one short file per target (`to_*.py`)."""
