"""Prove what a bundle claims: parity, accuracy, what is inside, and what its target will do with it."""
