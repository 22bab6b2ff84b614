"""Data augmentation: random versions of the images of a batch, in training only."""

import math
import operator
from numbers import Integral, Real
from typing import final

import numpy as np
from sklearn.base import clone

from skdeep._compat import Interval, InvalidParameterError, StrOptions
from skdeep._specification import Specification
from skdeep.training._specification import NON_NEGATIVE

_PIXELS = [Interval(Integral, 0, None, closed="left")]
_FRACTION = Interval(Real, 0, 1, closed="left")
#: What follows are the parameters that are one number or a pair, and the least of a pair.
_FACTORS = {"zoom": "positive", "brightness": "not negative"} | dict.fromkeys(
    ["contrast", "saturation"], "not negative"
)
_GEOMETRY = "shift rotation zoom shear horizontal_flip vertical_flip crop".split()
_COLOURS = "brightness contrast saturation hue".split()


@final
class Augmentation(Specification):
    r"""Show a network each image in another random version at every epoch.

    A version is made in this order:

    1. The image is flipped, zoomed, sheared and turned about its centre, shifted, and padded and
       cropped: one affine map, so that the pixels are interpolated (bilinearly) only once. An
       image that does not move, or moves by flips and whole pixels, is copied exactly.
    2. Brightness, contrast and saturation are changed by random factors, then the hue.
    3. A square at a random place is cut out.
    4. The images are mixed in pairs (mixup), and so are their targets.

    Every draw is a function of the training's seed, the step and the sample's place in the batch
    alone (counter-based). So a training repeats and resumes exactly, and the number of threads
    does not matter; nor does a parameter that is added change the draws of the others.

    All parameters are keyword-only, and by default nothing is done.

    Parameters
    ----------
    shift : float or int, default=0
        The largest shift, up or down and left or right: a fraction of the side below 1, of which
        any part is drawn, or an int, a number of pixels, of which a whole number is drawn.
    rotation : float, default=0.0
        The largest rotation in degrees, to either side, at most 180.
    zoom : float or (float, float), default=0.0
        The factor is drawn from [1 - zoom, 1 + zoom], or from the range given. A factor above 1
        magnifies.
    shear : float, default=0.0
        The largest shear along the rows in degrees, to either side, below 90.
    horizontal_flip, vertical_flip : bool, default=False
        Whether to mirror every other image (with probability 1/2), left and right or upside down.
    crop : int, default=0
        Pad each side by so many pixels and cut out an image of the old size at random (4 is the
        custom for CIFAR's images of 32 by 32).
    probability : float, default=1.0
        The share of the images that are turned, zoomed, sheared and shifted at all; flips and
        crops have their own chances.
    fill : {"zero", "edge"} or float, default="zero"
        What stands beyond the border: a number, or the nearest pixel of the image. A cut-out
        square is filled with the number; with zero if it is "edge".
    brightness, contrast, saturation : float or (float, float), default=0.0
        The factor is drawn from [max(0, 1 - number), 1 + number], or from the range given.
        Brightness multiplies; contrast moves away from, or towards, the mean of the image (of its
        grey values), and saturation from the pixel's grey value.
    hue : float, default=0.0
        The largest change of hue, to either side, in turns of the circle of colours, at most 0.5.
    value_range : (float, float), optional
        The least and the largest value of a pixel; what brightness, contrast and saturation
        bring beyond is clipped, once. By default nothing is clipped.
    cutout : float or int, default=0
        The side of the square that is cut out: a fraction of each side below 1, or an int, a
        number of pixels. Its centre may be any pixel, so a part of it may be outside.
    mixup : float, default=0.0
        The parameter :math:`\alpha` of the Beta distribution of the shares in which an image and
        its neighbour in the batch are mixed; 0 mixes nothing. The loss becomes ``share *
        loss(own target) + (1 - share) * loss(the neighbour's target)``.

    Notes
    -----
    Colours are as in torchvision's ``ColorJitter``, with grey as 0.299 R + 0.587 G + 0.114 B, but
    for a fixed order and one clipping, and images may have any range. The mean of an image that
    has not three channels is that of all its values. Neighbours are the places 2k and 2k + 1 of a
    step's batch, in the order of the epoch; in a batch of odd size the last image is not mixed.

    References
    ----------
    Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied to
    Visual Document Analysis", ICDAR 2003 (affine maps). DeVries and Taylor, "Improved
    Regularization of Convolutional Neural Networks with Cutout", arXiv:1708.04552. Zhang et al.,
    "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.training.augmentation import Augmentation
    >>> image = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    >>> flips = Augmentation(horizontal_flip=True)
    >>> for epoch in range(3):
    ...     print(flips.augment(image, seed=1, epoch=epoch)[0, :, :, 0].tolist())
    [[2.0, 1.0], [4.0, 3.0]]
    [[1.0, 2.0], [3.0, 4.0]]
    [[2.0, 1.0], [4.0, 3.0]]
    """

    _parameter_constraints: dict = {
        "shift": [Interval(Integral, 0, None, closed="left"), _FRACTION],
        "rotation": [Interval(Real, 0, 180, closed="both")],
        "zoom": [_FRACTION, tuple],
        "shear": [Interval(Real, 0, 90, closed="left")],
        "horizontal_flip": ["boolean"],
        "vertical_flip": ["boolean"],
        "crop": _PIXELS,
        "probability": [Interval(Real, 0, 1, closed="both")],
        "fill": [StrOptions({"zero", "edge"}), Interval(Real, None, None, closed="neither")],
        **{name: [*NON_NEGATIVE, tuple] for name in ("brightness", "contrast", "saturation")},
        "hue": [Interval(Real, 0, 0.5, closed="both")],
        "value_range": [None, tuple],
        "cutout": [Interval(Integral, 0, None, closed="left"), _FRACTION],
        "mixup": NON_NEGATIVE,
    }

    def __init__(
        self,
        *,
        shift=0,
        rotation=0.0,
        zoom=0.0,
        shear=0.0,
        horizontal_flip=False,
        vertical_flip=False,
        crop=0,
        probability=1.0,
        fill="zero",
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
        value_range=None,
        cutout=0,
        mixup=0.0,
    ):
        self.shift = shift
        self.rotation = rotation
        self.zoom = zoom
        self.shear = shear
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.crop = crop
        self.probability = probability
        self.fill = fill
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.value_range = value_range
        self.cutout = cutout
        self.mixup = mixup

    def validate(self):
        """Check the parameters.

        Raises
        ------
        InvalidParameterError
            A ValueError that names the first wrong parameter, its value and what would do.

        Examples
        --------
        >>> from skdeep.training.augmentation import Augmentation
        >>> Augmentation(zoom=(0.0, 1.5)).validate()
        Traceback (most recent call last):
            ...
        sklearn.utils._param_validation.InvalidParameterError: The 'zoom' parameter of \
Augmentation must be a number or a pair (low, high) of finite numbers, low <= high and low \
positive. Got (0.0, 1.5) instead.
        """
        super().validate()
        for name, least in (*_FACTORS.items(), ("value_range", None)):
            value = getattr(self, name)
            if not isinstance(value, tuple):
                continue
            sound = len(value) == 2 and all(isinstance(v, Real) for v in value)
            sound = sound and all(map(math.isfinite, value)) and value[0] <= value[1]
            below = {"positive": sound and value[0] <= 0, "not negative": sound and value[0] < 0}
            if not sound or below.get(least, value[0] == value[1]):
                kind = "a number or a pair" if least else "None or a pair"
                order = f"low <= high and low {least}" if least else "low < high"
                raise InvalidParameterError(
                    f"The {name!r} parameter of Augmentation must be {kind} (low, high) of finite "
                    f"numbers, {order}. Got {value!r} instead."
                )

    def check(self, image_shape):
        """Check the parameters, alone and for images of a shape.

        Parameters
        ----------
        image_shape : tuple of int
            Height, width and channels.

        Raises
        ------
        ValueError
            If a parameter is wrong, if the shape is not that of an image, if colours are to be
            changed that the images do not have, or if nothing might be left of an image.

        Examples
        --------
        >>> from skdeep.training.augmentation import Augmentation
        >>> Augmentation(hue=0.1).check((28, 28, 1))
        Traceback (most recent call last):
            ...
        ValueError: hue=0.1 needs images of 3 channels (red, green, blue); these have 1. Leave \
it at 0
        """
        self.validate()
        shape = tuple(image_shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(
                f"image_shape={shape}: augmentation takes images of shape (height, width, "
                "channels)"
            )
        height, width, channels = shape
        for name in ("saturation", "hue"):
            value = getattr(self, name)
            if channels != 3 and not (value == 0 or value == (1, 1)):
                raise ValueError(
                    f"{name}={value!r} needs images of 3 channels (red, green, blue); these have "
                    f"{channels}. Leave it at 0"
                )
        size = f"the images are {height} by {width} pixels"
        for side in (height, width):
            moved = self.shift if isinstance(self.shift, Integral) else self.shift * side
            if moved + self.crop >= side:
                raise ValueError(
                    f"shift={self.shift!r} and crop={self.crop!r} may leave nothing of an image; "
                    f"{size}, so together they must move it by less than {side}"
                )
        if isinstance(self.cutout, Integral) and self.cutout >= max(height, width):
            raise ValueError(
                f"cutout={self.cutout!r} may leave nothing of an image; {size}, so it must be "
                f"below {max(height, width)}"
            )

    def calls(self, x, y, seeds, counters):
        """Return the kernel calls that augment a batch in place.

        Parameters
        ----------
        x : ndarray of float32 or float64 of shape (M, B, H, W, C)
            The members' images, each contiguous.
        y : ndarray of shape (M, B) of int64, or of shape (M, B, n_outputs)
            Labels, or targets in any dtype. They are read by mixup only, and not changed.
        seeds : ndarray of int64 of shape (M,)
            The members' seeds.
        counters : ndarray of int64 of shape (M, 4)
            The first entry is the step, the last the place in the step's batch of the first
            sample of `x`, which must be even for mixup.

        Returns
        -------
        calls : list of (Variant, tuple)
            Compiled kernels and their arguments, in order; empty if nothing is to be done.
        other : ndarray like y, or None
            With mixup, the targets of the samples that these were mixed with.
        share : ndarray of shape (M, B) in the dtype of x, or None
            With mixup, the weight of a sample's own target.

        Raises
        ------
        ValueError
            As `check` does, or if the images are not contiguous.

        Examples
        --------
        >>> import numpy as np
        >>> from skdeep.training.augmentation import Augmentation
        >>> x, y = np.ones((1, 2, 4, 4, 1), np.float32), np.array([[3, 5]])
        >>> seeds, counters = np.array([7]), np.zeros((1, 4), np.int64)
        >>> calls, other, share = Augmentation(mixup=1.0).calls(x, y, seeds, counters)
        >>> for kernel, args in calls:
        ...     kernel(*args)
        >>> other.tolist(), share.shape
        ([[5, 3]], (1, 2))
        """
        self.check(x.shape[2:])
        members, size, height, width, channels = x.shape
        rows = x.reshape(members, size, height, width * channels)
        if x.size and not np.may_share_memory(rows, x):
            raise ValueError("x: the images are not contiguous; pass an array in C order")
        draw, drawn = self._draw((height, width), size, seeds, counters)
        calls = [*self._geometry(rows, drawn, channels), *self._colours(rows, drawn, channels)]
        calls += self._cutout(rows, drawn, channels)
        other = share = None
        if self.mixup > 0:
            mixing, other, share = self._mixup(rows, drawn, y, counters)
            calls += mixing
        return ([draw, *calls] if calls else []), other, share

    def augment(self, X, *, seed=0, epoch=0):
        """Return a random version of images, as a network in training sees them.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels)
            Images of any floating dtype, or of uint8 (0 to 255, to which colours are clipped).
        seed : int, default=0
            Chooses the draws.
        epoch : int, default=0
            Chooses other draws of the same seed.

        Returns
        -------
        ndarray of shape (n_samples, height, width, channels)
            New images in the dtype of `X`. With mixup they are mixed in pairs: for a training
            elsewhere set it to 0, since the targets would have to be mixed too.

        Raises
        ------
        ValueError
            As `check` does, or if `X`, `seed` or `epoch` is not of the kind above.

        Examples
        --------
        >>> import numpy as np
        >>> from skdeep.training.augmentation import Augmentation
        >>> X = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
        >>> flip = Augmentation(horizontal_flip=True)
        >>> versions = [flip.augment(X, epoch=epoch)[0, 0, :, 0].tolist() for epoch in range(9)]
        >>> sorted(set(map(tuple, versions)))
        [(0, 3), (3, 0)]
        """
        X = np.asarray(X)
        if X.ndim != 4 or not (X.dtype.kind == "f" or X.dtype == np.uint8):
            raise ValueError(
                f"X has shape {X.shape} and dtype {X.dtype}; augment takes images of shape "
                "(n_samples, height, width, channels) and of a floating dtype or uint8"
            )
        for name, value in (("seed", seed), ("epoch", epoch)):
            if not 0 <= operator.index(value) < 2**63:
                raise ValueError(f"{name}={value} must be from 0 to 2**63 - 1")
        bytes_ = X.dtype == np.uint8
        spec = self
        if bytes_ and self.value_range is None:
            spec = clone(self).set_params(value_range=(0, 255))
        x = np.array(X[None], np.float64 if X.dtype.itemsize > 4 else np.float32, order="C")
        counters = np.array([[epoch, 0, 0, 0]], np.int64)
        targets = np.zeros((1, len(X)), np.int64)
        for kernel, args in spec.calls(x, targets, np.array([seed], np.int64), counters)[0]:
            kernel(*args)
        if bytes_:
            x = np.clip(np.rint(x), 0, 255)
        return x[0].astype(X.dtype)

    # ---- the parts of `calls` -----------------------------------------------------------------

    def _draw(self, sides, size, seeds, counters):
        """Return the call that draws, and the table of draws that it fills."""
        from skdeep._kernels.cpu import augment as kernels

        settings = np.array([self._settings(*sides)[name] for name in kernels.NAMES])
        drawn = np.zeros((len(seeds), size, len(kernels.NAMES)))
        # No argument is of the kernel's floating dtype: one variant serves both.
        return (kernels.draw[np.float32], (seeds, counters, settings, drawn)), drawn

    def _drawn(self, sides, size, seeds, counters):
        """Return what is drawn for each sample: a dict of arrays (M, size) by name."""
        from skdeep._kernels.cpu import augment as kernels

        (kernel, args), drawn = self._draw(sides, size, seeds, counters)
        kernel(*args)
        return dict(zip(kernels.NAMES, np.moveaxis(drawn, 2, 0), strict=True))

    def _settings(self, height, width):
        """Return (low, width, whole) of every draw, by name."""

        def around(size, side=1):
            if isinstance(size, Integral):
                return -int(size), 2 * int(size) + 1, 1
            return -size * side, 2 * size * side, 0

        def factor(value):
            low, high = value if isinstance(value, tuple) else (max(0, 1 - value), 1 + value)
            return low, high - low, 0

        return {
            "applied": (self.probability, 0, 0),
            "rotation": around(float(self.rotation)),
            "zoom": factor(self.zoom),
            "shear": around(float(self.shear)),
            "shift_y": around(self.shift, height),
            "shift_x": around(self.shift, width),
            "crop_y": around(self.crop),
            "crop_x": around(self.crop),
            "horizontal_flip": (0, 1 + bool(self.horizontal_flip), 1),
            "vertical_flip": (0, 1 + bool(self.vertical_flip), 1),
            **{name: factor(getattr(self, name)) for name in _COLOURS[:3]},
            "hue": around(float(self.hue)),
            "cutout_y": (0, height, 1),
            "cutout_x": (0, width, 1),
            "share": (self.mixup, 0, 0),
        }

    def _filling(self, dtype):
        """Return what stands beyond the border and in a cut-out square, of shape (1,)."""
        return np.array([0 if isinstance(self.fill, str) else self.fill], dtype)

    def _geometry(self, rows, drawn, channels):
        """Return the call of the affine map, in a list; none if no image moves."""
        if not any(getattr(self, name) for name in _GEOMETRY):
            return []
        from skdeep._kernels.cpu.augment import warp

        dtype, height, width = rows.dtype, rows.shape[2], rows.shape[3] // channels
        image = np.zeros((height + 3) * (width + 3) * channels, dtype)
        scratch = image, np.zeros(width, np.int64), np.zeros((2, width), dtype)
        edge = int(self.fill == "edge")
        return [(warp[dtype], (rows, drawn, channels, self._filling(dtype), edge, *scratch))]

    def _colours(self, rows, drawn, channels):
        """Return the call of the colours, in a list; none if they stay."""
        if not any(getattr(self, name) for name in _COLOURS):
            return []
        from skdeep._kernels.cpu.augment import colour

        bounds = (-np.inf, np.inf) if self.value_range is None else self.value_range
        scratch = np.zeros(rows.shape[3], rows.dtype)
        args = (rows, drawn, channels, np.array(bounds, rows.dtype), scratch)
        return [(colour[rows.dtype], args)]

    def _cutout(self, rows, drawn, channels):
        """Return the call of cutout, in a list; none without."""
        sides = [rows.shape[2], rows.shape[3] // channels]
        if not isinstance(self.cutout, Integral):
            sides = [round(self.cutout * side) for side in sides]
        else:
            sides = [int(self.cutout)] * 2
        if not all(sides):
            return []
        from skdeep._kernels.cpu.augment import cutout

        args = (rows, drawn, channels, *sides, self._filling(rows.dtype))
        return [(cutout[rows.dtype], args)]

    def _mixup(self, rows, drawn, y, counters):
        """Return the calls of mixup, the partners' targets and the shares."""
        from skdeep._kernels.cpu import augment as kernels

        members, size, *image = rows.shape
        other, share = np.zeros_like(y, order="C"), np.ones((members, size), rows.dtype)
        flat = rows.reshape(members, size, math.prod(image))
        # Targets are copied as bytes, so that one kernel serves labels and every dtype.
        n = math.prod(y.shape[2:])
        as_bytes = [a.reshape(members, size, n).view(np.uint8) for a in (y, other)]
        return (
            [
                (kernels.mix[rows.dtype], (flat, drawn, counters, share)),
                (kernels.partners_targets[rows.dtype], (as_bytes[0], counters, as_bytes[1])),
            ],
            other,
            share,
        )
