"""What apps on other platforms need: the conformance suite, and projects with a bundle in place."""
