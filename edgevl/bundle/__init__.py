"""The format of a bundle: its folder, manifest, golden cases and card."""
