"""What makes steps fast without changing what they compute."""
