"""Published numbers, measured again: one file per target, each a function `run(data_dir)` on the public API."""
