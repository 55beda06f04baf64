"""Autoregressive likelihood of images: a PixelCNN that is told z."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import AutoregressiveImage
from vaekit.errors import ConfigError
from vaekit.networks.autoregressive import PixelCNN as Network
from vaekit.shapes import Shape, as_shape


class PixelCNN(ConditionalDistribution):
    r"""Autoregressive likelihood of images: a PixelCNN that is told z.

    \( p(x|z) = \prod_i p(x_i | x_1, \dots, x_{i-1}, z) \) for bits or integers x in 0..L-1, by masked convolutions.

    The decoder's network gives a context, an image of the sides of x; a PixelCNN, part of this head, reads it together
    with the pixels before each one. Channels of a pixel follow each other. Use it where log p(x) matters most: noise
    and texture need not be stored in z. It may then ignore z altogether: look at the rate (`evaluation.diagnostics`),
    keep `num_layers` small so that z has to carry what is far away, or warm the KL up. Draws are slow, one pass of the
    network per element (see `AutoregressiveImage`), and means are averages of a few draws.

    Events of one dimension are read as a row of pixels, in their order.

    References:
        van den Oord et al., "Conditional image generation with PixelCNN decoders", 2016,
        https://arxiv.org/abs/1606.05328.
        Gulrajani et al., "PixelVAE: a latent variable model for natural images", 2017,
        https://arxiv.org/abs/1611.05013.

    Args:
        event_shape: shape of x: (C, H, W), (H, W) or (D,).
        num_levels: L, 2 for bits.
        channels: feature maps per channel of x, and channels of the context.
        num_layers: residual layers; each reaches one pixel further.
        kernel_size: odd side of the first kernel.

    Raises:
        ConfigError: if L < 2, a count is below 1, the side is even, or an event has more than three dimensions.

    Example:
        >>> import torch
        >>> head = PixelCNN((1, 4, 4), channels=8, num_layers=1)
        >>> head(torch.zeros(2, 8, 4, 4)).sample().shape
        torch.Size([2, 1, 4, 4])
    """

    levels_argument = "num_levels"

    def __init__(
        self,
        event_shape: Shape,
        num_levels: int = 2,
        channels: int = 32,
        num_layers: int = 4,
        kernel_size: int = 7,
    ) -> None:
        event = as_shape(event_shape)
        if num_levels < 2:
            raise ConfigError(f"PixelCNN expects at least 2 levels; got {num_levels}")
        if channels < 1 or num_layers < 1:
            raise ConfigError(f"channels and num_layers are at least 1; got {channels} and {num_layers}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size is odd; got {kernel_size}")
        if len(event) > 3:
            raise ConfigError(f"PixelCNN expects events (C, H, W), (H, W) or (D,); got {event}")
        super().__init__(event, param_shape=(channels, *((1, *event)[-2:])))
        self.num_levels, self.channels = num_levels, channels
        self.num_layers, self.kernel_size = num_layers, kernel_size
        padded = (1, 1, *event)[-3:]
        self.image_shape = (padded[0], padded[1], padded[2])
        self.network = Network(self.image_shape, num_levels, channels, channels, num_layers, kernel_size)

    def forward(self, params: Tensor) -> AutoregressiveImage:
        """A context of shape (..., channels, H, W) to p(x|z)."""
        event, reach = self.event_shape, self.network.reach
        return AutoregressiveImage(self.network, params, self.image_shape, event, self.num_levels, reach)
