"""Tricks that nothing does by itself: each is a call that says what it changes."""

from vaekit.contrib.convolutions import Conv2d, ConvTranspose2d, adopt, can_gain

__all__ = ["Conv2d", "ConvTranspose2d", "adopt", "can_gain"]
