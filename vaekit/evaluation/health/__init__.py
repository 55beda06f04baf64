"""Whether a model is well: which latents carry information, and what the encoder loses."""
