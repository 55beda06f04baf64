"""Characters in any style, from one or a few samples: `python -m examples.fonts`."""
