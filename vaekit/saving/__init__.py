"""Models as files: described, written, read, checked."""
