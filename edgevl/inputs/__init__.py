"""Pictures and words to tensors, as a manifest declares them."""
