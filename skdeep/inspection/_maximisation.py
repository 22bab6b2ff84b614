"""Images that a layer or a channel answers to: activation maximisation, "deep dreams"."""

import warnings
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_scalar

from skdeep._random import generator, member_seeds
from skdeep.inspection._fitted import find_layer, fitted_network
from skdeep.inspection._resize import resized
from skdeep.layers._topology import SOURCE

#: The numbers of the random streams: of the image to begin with, and of the shifts.
_START, _JITTER = 0, 1


def activation_maximization(
    estimator,
    *,
    layer,
    channel=None,
    image=None,
    n_iter=50,
    learning_rate=0.05,
    octaves=1,
    octave_scale=1.4,
    jitter=0,
    blur=0.0,
    l2=0.0,
    clip=None,
    random_state=None,
):
    """Return an image that a layer, or a channel of it, answers to strongly.

    From noise, this shows what a channel looks for [1]_, [2]_; from an image, the image changes
    towards what the network sees in it ("deep dream", [3]_). The image climbs the gradient of the
    mean activation, in steps of equal size.

    Parameters
    ----------
    estimator : estimator instance
        A fitted network that takes images, or a Pipeline or search that ends in one.
    layer : str
        The layer's name. The channels of "output" are the classes' raw scores.
    channel : int, default=None
        The channel; the mean of all by default.
    image : array-like of shape (height, width[, n_channels]) or (n_features,), default=None
        The image to begin with; noise by default. It may have any size as long as no weight
        before the layer belongs to one pixel (as those of a dense layer do).
    n_iter : int, default=50
        The number of steps, in each octave.
    learning_rate : float, default=0.05
        The size of a step: the root of the mean square of the pixels' changes.
    octaves : int, default=1
        The number of sizes, from small to large: what comes up in one is refined in the next.
    octave_scale : float, default=1.4
        The ratio of one size to the one before.
    jitter : int, default=0
        By how many pixels the image is shifted at most, at random in every step, so that no
        pixel is favoured by its place.
    blur : float, default=0.0
        The standard deviation, in pixels, of the blur of the gradient, which keeps the image
        smooth.
    l2 : float, default=0.0
        The weight of the mean square of the pixels, which is taken from the objective.
    clip : tuple of (float, float), default=None
        The lowest and highest value of a pixel; no limits by default.
    random_state : int, RandomState instance or None, default=None
        Fixes the noise and the shifts.

    Returns
    -------
    image : ndarray of the shape of the image given, or of a sample
        The image, of the network's dtype.
    objective : ndarray of shape (octaves, n_iter + 1)
        The mean activation less the penalty: before every step (of the shifted image) and after
        the last.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it has no network, or a parameter is of a wrong type.
    ValueError
        If there is no such layer or channel, the layer does not take an image of that size, or
        another parameter is wrong.

    Warns
    -----
    UserWarning
        If the objective does not depend on the image at all where it begins (a channel that
        `relu` keeps at zero): that image comes back.

    References
    ----------
    .. [1] D. Erhan, Y. Bengio, A. Courville and P. Vincent, "Visualizing Higher-Layer Features of
       a Deep Network", University of Montreal, 2009.
    .. [2] K. Simonyan, A. Vedaldi and A. Zisserman, "Deep Inside Convolutional Networks:
       Visualising Image Classification Models and Saliency Maps", arXiv:1312.6034, 2013.
    .. [3] A. Mordvintsev, C. Olah and M. Tyka, "Inceptionism: Going Deeper into Neural Networks",
       Google Research Blog, 2015.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.inspection import activation_maximization
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> cnn = CNNClassifier(max_iter=1, random_state=0).fit(X[:200] / 16, y[:200])
    >>> image, objective = activation_maximization(cnn, layer="output", channel=3, random_state=0)
    >>> image.shape, bool(objective[0, -1] > objective[0, 0])
    ((8, 8, 1), True)
    """
    climb = _Climb(n_iter, learning_rate, jitter, blur, clip)
    check_scalar(l2, "l2", Real, min_val=0)
    check_scalar(octaves, "octaves", Integral, min_val=1)
    check_scalar(octave_scale, "octave_scale", Real, min_val=1, include_boundaries="neither")
    network, _ = fitted_network(estimator)
    node = find_layer(network, layer)
    seed = int(member_seeds(random_state, 1)[0])
    start, shape = _start(network, image, clip, generator(seed, _START))
    full = np.array(start.shape[:2])
    sizes = [tuple(np.maximum(1, np.rint(full / octave_scale**k)).astype(int).tolist())
             for k in range(octaves - 1, -1, -1)]  # fmt: skip
    for size in sizes:
        _check_shape(network, node, (*size, start.shape[-1]))
    objective = _Objective(network, node, layer, _channel(network, node, channel), l2)
    detail, curves = np.zeros_like(start), []
    for octave, size in enumerate(sizes):
        base = _scaled(start, size)
        reached, curve = climb.from_image(
            objective, base + _scaled(detail, size), generator(seed, _JITTER, octave)
        )
        detail = reached - base
        curves.append(curve)
    return reached.reshape(shape), np.array(curves, network.dtype)


def _scaled(image, size):
    """Return an image of shape (height, width, channels) in another size."""
    return np.ascontiguousarray(np.moveaxis(resized(np.moveaxis(image, -1, 0), size), 0, -1))


def _start(network, image, clip, rng):
    """Return the image to begin with as (height, width, channels), and the shape to return."""
    shape, dtype = network.shapes[0], network.dtype
    if len(shape) != 3:
        raise ValueError(
            f"the network takes samples of shape {shape}, no images; fit a network to images, "
            "such as CNNClassifier"
        )
    if image is None:
        low, high = (-0.5, 0.5) if clip is None else clip
        noise = 0.1 * rng.standard_normal(shape)
        image = (low + high) / 2 + (high - low) * noise
        return (image if clip is None else image.clip(low, high)).astype(dtype), shape
    image = np.array(image, dtype)
    given = image.shape
    if image.ndim == 1 and image.size == np.prod(shape):
        image = image.reshape(shape)
    elif image.ndim == 2 and shape[-1] == 1:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] != shape[-1] or not image.size:
        raise ValueError(
            f"image has shape {given}; it must be (height, width, {shape[-1]}), or a row of "
            f"{int(np.prod(shape))} features"
        )
    return image, given


def _check_shape(network, node, shape):
    """Refuse images of a shape for which a layer, or one before it, has no weights."""
    if shape == network.shapes[0]:
        return
    shapes = {SOURCE: shape}
    for i in [i for i in network.wanted(training=False) if i <= node]:
        at, inputs = network.nodes[i], [shapes[j] for j in network.nodes[i].inputs]
        wrong = (
            f"layer {at.name!r} does not take what becomes of an image of shape {shape}; give an "
            f"image of shape {network.shapes[0]} and octaves=1, or an earlier layer"
        )
        try:
            built = at.layer.build(inputs if at.layer.merges else inputs[0])
        except ValueError as e:
            raise ValueError(f"{wrong} ({e})") from e
        if any(p.shape != at.built.parameters[k].shape for k, p in built.parameters.items()):
            raise ValueError(wrong)
        shapes[i] = built.output_shape


def _channel(network, node, channel):
    """Return the number of a channel that there is, or None."""
    if channel is None:
        return None
    n_channels = network.shapes[node + 1][-1]
    check_scalar(channel, "channel", Integral)
    if not 0 <= channel < n_channels:
        raise ValueError(
            f"channel={channel} is none of the {n_channels} channels of layer "
            f"{network.nodes[node].name!r}; they are numbered from 0"
        )
    return int(channel)


@dataclass(frozen=True)
class _Objective:
    """The mean activation of a layer or of a channel, less a penalty on the pixels."""

    network: object
    node: int
    layer: str
    channel: int | None
    l2: float

    def __call__(self, image):
        net = self.network
        x = np.reshape(image, (1, 1, *image.shape))
        value, _ = net.apply(net.params, net.state, x, upto=self.node + 1)
        value = np.mean(value if self.channel is None else value[..., self.channel])
        return value - self.l2 * np.mean(image**2) if self.l2 else value


@dataclass(frozen=True)
class _Climb:
    """Gradient ascent in steps of equal size, for one size of the image."""

    n_iter: int
    learning_rate: float
    jitter: int
    blur: float
    clip: tuple | None

    def __post_init__(self):
        check_scalar(self.n_iter, "n_iter", Integral, min_val=1)
        check_scalar(
            self.learning_rate, "learning_rate", Real, min_val=0, include_boundaries="neither"
        )
        check_scalar(self.jitter, "jitter", Integral, min_val=0)
        check_scalar(self.blur, "blur", Real, min_val=0)
        if self.clip is not None and (len(self.clip) != 2 or not self.clip[0] < self.clip[1]):
            raise ValueError(f"clip={self.clip!r} must be (low, high) with low < high, or None")

    def from_image(self, objective, image, rng):
        """Return where the steps lead, and the objective at each of them and at the end."""
        from scipy.ndimage import gaussian_filter

        from skdeep.autodiff import value_and_grad

        f, curve = value_and_grad(objective), []
        for step in range(self.n_iter):
            shift = (
                tuple(rng.integers(-self.jitter, self.jitter + 1, 2)) if self.jitter else (0, 0)
            )
            value, gradient = f(np.roll(image, shift, (0, 1)))
            gradient = np.roll(gradient, (-shift[0], -shift[1]), (0, 1))
            curve.append(value)
            if self.blur:
                gradient = gaussian_filter(gradient, (self.blur, self.blur, 0))
            size = np.sqrt(np.mean(gradient**2))
            if not size and step == 0:
                warnings.warn(
                    f"layer={objective.layer!r}, channel={objective.channel} does not depend on "
                    "the image to begin with (its activation is constant there); begin with "
                    "another image or random_state",
                    UserWarning,
                    stacklevel=3,
                )
            if size:
                image = image + gradient * image.dtype.type(self.learning_rate / size)
            if self.clip is not None:
                image = np.clip(image, *self.clip)
        return image, [*curve, objective(image)]
