"""The region-feature baseline: detectors, the model over their regions, and the pipeline as it is timed."""
