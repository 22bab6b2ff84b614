"""Augmentation of image batches in place: draws, one affine map, colours, cutout, mixup.

A batch is (M, B, H, W * C): images of a member, whose rows hold the channels of their pixels side
by side. What was drawn stands in a table (M, B, `DRAWS`) of float64, one column per draw, which
`draw` fills and the other kernels read. Counters are (M, 4) or wider: the first entry is the step,
the fourth the place in the step's batch of the first sample here. A sample's draws are a function
of seed, step and place alone.
"""

import math

import numpy as np

from skdeep._kernels.cpu._numba import as_c, helper, kernel, njit_inline
from skdeep._kernels.philox import high, low, philox

#: The stream of augmentation; layers, which count from 0, never come so far.
SITE = 2**32 - 1

#: The columns of a table of draws, and with them the words that a sample's draws take.
NAMES = (
    "applied rotation zoom shear shift_y shift_x crop_y crop_x horizontal_flip vertical_flip "
    "brightness contrast saturation hue cutout_y cutout_x share"
).split()
APPLIED, ROTATION, ZOOM, SHEAR, SHIFT_Y, SHIFT_X, CROP_Y, CROP_X = range(8)
FLIP_X, FLIP_Y, BRIGHTNESS, CONTRAST, SATURATION, HUE, CUTOUT_Y, CUTOUT_X = range(8, 16)
SHARE = 16
DRAWS = 17
#: Counters of a sample, of four words each: one more word than columns, for the Beta draw.
_BLOCKS = 5

_U32 = 2.0**-32


@njit_inline
def symmetric_beta(alpha, first, second):
    """Return the Beta(alpha, alpha) draw of two words, exact in law for every alpha > 0.

    A Student t with 2 alpha degrees of freedom by Bailey's polar method, brought to (0, 1); see
    Devroye, "Random variate generation in one line of code", WSC 1996. The smaller of x and
    1 - x is computed without cancellation.
    """
    radius = (first + 0.5) * _U32
    angle = math.cos(2.0 * math.pi * (second + 0.5) * _U32)
    r = (radius ** (-1.0 / alpha) - 1.0) * angle * angle
    if not r < 1e300:
        small = 0.0
    else:
        small = 0.5 / ((1.0 + r) * (1.0 + math.sqrt(r / (1.0 + r))))
    return small if angle < 0.0 else 1.0 - small


@kernel("l1 l2 g2 g3")
def draw(seeds, counters, settings, drawn):
    """Draw for every sample; `settings` (`DRAWS`, 3) says of each column (low, width, whole).

    A draw is low + width * u with u uniform in [0, 1), and its floor where it is to be whole. Of
    two columns the first entry means something else: the chance that rotation, zoom, shear and
    shift are applied, and Beta's parameter (0 for a share of 1).
    """
    words = np.empty(4 * _BLOCKS, np.float64)
    for m in range(drawn.shape[0]):
        k0, k1 = low(seeds[m]), high(seeds[m])
        step = counters[m, 0]
        for b in range(drawn.shape[1]):
            block = (counters[m, 3] + b) * _BLOCKS
            for i in range(_BLOCKS):
                w0, w1, w2, w3 = philox(
                    np.uint64(block + i), np.uint64(SITE), low(step), high(step), k0, k1
                )
                words[4 * i] = w0
                words[4 * i + 1] = w1
                words[4 * i + 2] = w2
                words[4 * i + 3] = w3
            row = as_c(drawn[m, b])
            for j in range(1, SHARE):
                value = settings[j, 0] + settings[j, 1] * (words[j] * _U32)
                row[j] = math.floor(value) if settings[j, 2] != 0 else value
            row[APPLIED] = 1.0
            if words[APPLIED] * _U32 >= settings[APPLIED, 0]:
                row[APPLIED], row[ROTATION], row[ZOOM] = 0.0, 0.0, 1.0
                row[SHEAR], row[SHIFT_Y], row[SHIFT_X] = 0.0, 0.0, 0.0
            alpha = settings[SHARE, 0]
            row[SHARE] = 1.0
            if alpha > 0:
                row[SHARE] = symmetric_beta(alpha, words[SHARE], words[SHARE + 1])


# ---- the affine map ---------------------------------------------------------------------------


@helper
def _snapped(value):
    """Return a sine or cosine, exact where it is -1, 0 or 1."""
    nearest = np.rint(value)
    return nearest if abs(value - nearest) < 1e-12 else value


@helper
def source_map(row, height, width):
    """Return (y0, yy, yx, x0, xy, xx): output pixel (i, j) shows source (y0 + yy i + yx j, ...).

    The image is flipped, zoomed, sheared along its rows, turned counterclockwise, all about its
    centre, and shifted down and right; this is the inverse of that.
    """
    angle = math.radians(row[ROTATION])
    cos, sin = _snapped(math.cos(angle)), _snapped(math.sin(angle))
    shear, zoom = math.tan(math.radians(row[SHEAR])), row[ZOOM]
    flip_y, flip_x = 1.0 - 2.0 * row[FLIP_Y], 1.0 - 2.0 * row[FLIP_X]
    yy, yx = flip_y * cos / zoom, flip_y * sin / zoom
    xy, xx = flip_x * (-sin - shear * cos) / zoom, flip_x * (cos - shear * sin) / zoom
    cy, cx = 0.5 * (height - 1), 0.5 * (width - 1)
    oy, ox = cy + row[SHIFT_Y] + row[CROP_Y], cx + row[SHIFT_X] + row[CROP_X]
    return cy - yy * oy - yx * ox, yy, yx, cx - xy * oy - xx * ox, xy, xx


@helper
def _is_identity(row):
    """Return whether a sample's map moves nothing."""
    moved = row[FLIP_Y] != 0 or row[FLIP_X] != 0 or row[ROTATION] != 0 or row[SHEAR] != 0
    dy, dx = row[SHIFT_Y] + row[CROP_Y], row[SHIFT_X] + row[CROP_X]
    return not (moved or row[ZOOM] != 1 or dy != 0 or dx != 0)


@helper
def _is_whole(numbers):
    """Return whether a map takes every pixel to one pixel."""
    off = 0.0
    for number in numbers:
        off += abs(number - np.rint(number))
    return off == 0


@njit_inline
def _pick(image, corner, channels, out):
    """Put single pixels of `image` into a row of pixels."""
    for j in range(corner.size):
        i = corner[j]
        for c in range(channels):
            out[j * channels + c] = image[i + c]


@njit_inline
def _interpolate(image, corner, ty, tx, channels, stride, out):
    """Put the bilinear means of four neighbours in `image` into a row of pixels."""
    for j in range(corner.size):
        i, v, u = corner[j], ty[j], tx[j]
        for c in range(channels):
            a, b = image[i + c], image[i + channels + c]
            p, q = image[i + stride + c], image[i + stride + channels + c]
            upper, lower = a + u * (b - a), p + u * (q - p)
            out[j * channels + c] = upper + v * (lower - upper)


@kernel("f4 g3 i f1 i f1 l1 f2")
def warp(x, drawn, channels, fill, edge, image, corner, weight):
    """Show each image through its map, bilinearly; whole pixels are copied as they are.

    Beyond the border stands `fill` (1,), or the nearest pixel where `edge` is 1. Scratch: `image`
    of (H + 3) * (W + 3) * C values, `corner` of W, `weight` (2, W).
    """
    T = x.dtype.type
    height, width = x.shape[2], x.shape[3] // channels
    stride = (width + 3) * channels
    # A frame of one pixel, and of one more that has no weight: no neighbour is out of bounds.
    image, corner, first = as_c(image), as_c(corner), stride + channels
    ty, tx = as_c(weight[0]), as_c(weight[1])
    for i in range(image.size):
        image[i] = fill[0]
    margin = 0.0 if edge else 1.0
    for m in range(x.shape[0]):
        for b in range(x.shape[1]):
            row = as_c(drawn[m, b])
            if _is_identity(row):
                continue
            for i in range(height):
                source, at = as_c(x[m, b, i]), image[first + i * stride :]
                for j in range(width * channels):
                    at[j] = source[j]
            numbers = source_map(row, height, width)
            y0, yy, yx, x0, xy, xx = numbers
            whole = _is_whole(numbers)
            for i in range(height):
                row_y, row_x = y0 + yy * i, x0 + xy * i
                for j in range(width):
                    sy = min(max(row_y + yx * j, -margin), height - 1 + margin)
                    sx = min(max(row_x + xx * j, -margin), width - 1 + margin)
                    iy, ix = math.floor(sy), math.floor(sx)
                    ty[j], tx[j] = T(sy - iy), T(sx - ix)
                    corner[j] = first + np.int64(iy) * stride + np.int64(ix) * channels
                out = as_c(x[m, b, i])
                # Known numbers of channels unroll.
                if whole:
                    _pick(image, corner, channels, out)
                elif channels == 1:
                    _interpolate(image, corner, ty, tx, 1, stride, out)
                elif channels == 3:
                    _interpolate(image, corner, ty, tx, 3, stride, out)
                else:
                    _interpolate(image, corner, ty, tx, channels, stride, out)


# ---- colours ----------------------------------------------------------------------------------

#: Luma of ITU-R 601, the weights of grey.
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114


@helper
def _mean(image, channels, total):
    """Return an image's mean: of its grey values where it has three channels."""
    height, n = image.shape
    for j in range(n):
        total[j] = 0
    for i in range(height):
        values = image[i]
        for j in range(n):
            total[j] += values[j]
    s = 0.0
    if channels == 3:
        for j in range(0, n, 3):
            s += _RED * total[j] + _GREEN * total[j + 1] + _BLUE * total[j + 2]
        return s / (height * (n // 3))
    for j in range(n):
        s += total[j]
    return s / (height * n)


@njit_inline
def _channel(n, hue, largest, chroma, T):
    """Return the channel (5 for red, 3 green, 1 blue) of a hue in sixths of a turn."""
    k = n + hue
    k -= T(6) * math.floor(k * T(1 / 6))
    return largest - chroma * max(T(0), min(min(k, T(4) - k), T(1)))


@njit_inline
def _turn_hue(values, turn):
    """Turn the hue of a row of RGB pixels by sixths of a turn, at equal value and chroma.

    HSV by the largest channel and the chroma, so that any range of values will do.
    """
    T = values.dtype.type
    for i in range(values.size // 3):
        r, g, b = values[3 * i], values[3 * i + 1], values[3 * i + 2]
        largest = max(max(r, g), b)
        chroma = largest - min(min(r, g), b)
        inverse = T(1) / chroma if chroma > 0 else T(0)
        blue = T(4) + (r - g) * inverse
        hue = (g - b) * inverse if largest == r else T(2) + (b - r) * inverse
        # Where two channels are the largest, their formulas agree.
        hue = blue if largest == b else hue
        hue += turn
        values[3 * i] = _channel(T(5), hue, largest, chroma, T)
        values[3 * i + 1] = _channel(T(3), hue, largest, chroma, T)
        values[3 * i + 2] = _channel(T(1), hue, largest, chroma, T)


@njit_inline
def _recolour(values, channels, scale, grey, shift, bounds):
    """values = scale * values + grey * their pixel's grey + shift, within bounds."""
    T = values.dtype.type
    lowest, highest = bounds[0], bounds[1]
    if channels == 3:
        for i in range(values.size // 3):
            r, g, b = values[3 * i], values[3 * i + 1], values[3 * i + 2]
            level = grey * (T(_RED) * r + T(_GREEN) * g + T(_BLUE) * b) + shift
            r, g, b = scale * r + level, scale * g + level, scale * b + level
            values[3 * i] = min(max(r, lowest), highest)
            values[3 * i + 1] = min(max(g, lowest), highest)
            values[3 * i + 2] = min(max(b, lowest), highest)
    else:
        for i in range(values.size):
            values[i] = min(max(scale * values[i] + shift, lowest), highest)


@kernel("f4 g3 i f1 f1")
def colour(x, drawn, channels, bounds, total):
    """Change brightness, contrast and saturation, bring into bounds (2,), and turn the hue.

    The first three are one linear map of a pixel. Scratch: `total` of W * C values.
    """
    T = x.dtype.type
    total = as_c(total)
    for m in range(x.shape[0]):
        for b in range(x.shape[1]):
            row, image = as_c(drawn[m, b]), as_c(x[m, b])
            bright, contrast, saturation = row[BRIGHTNESS], row[CONTRAST], row[SATURATION]
            turn = T(6.0 * row[HUE])
            linear = bright != 1 or contrast != 1 or saturation != 1
            shift = 0.0
            if contrast != 1:
                shift = (1.0 - contrast) * bright * _mean(image, channels, total)
            scale, grey = bright * contrast * saturation, bright * contrast * (1.0 - saturation)
            for i in range(image.shape[0]):
                values = image[i]
                if linear:
                    _recolour(values, channels, T(scale), T(grey), T(shift), bounds)
                if turn != 0:
                    _turn_hue(values, turn)


# ---- cutout and mixup -------------------------------------------------------------------------


@kernel("f4 g3 i i i f1")
def cutout(x, drawn, channels, height, width, fill):
    """Fill a rectangle of each image, whose centre was drawn, as far as it is in the image."""
    for m in range(x.shape[0]):
        for b in range(x.shape[1]):
            top = np.int64(drawn[m, b, CUTOUT_Y]) - height // 2
            left = np.int64(drawn[m, b, CUTOUT_X]) - width // 2
            start, stop = max(left, 0) * channels, min((left + width) * channels, x.shape[3])
            for i in range(max(top, 0), min(top + height, x.shape[2])):
                values = as_c(x[m, b, i])
                for j in range(start, stop):
                    values[j] = fill[0]


@helper
def partner(i, place, n):
    """Return with whom sample i of n is mixed: places 2k and 2k + 1 of the step are a pair.

    A pair falls into one part of a step's batch if the parts have even sizes; one who is left
    alone is mixed with itself.
    """
    other = ((place + i) ^ 1) - place
    return other if 0 <= other < n else i


@kernel("f3 g3 l2 f2")
def mix(x, drawn, counters, share):
    """Replace the samples of each pair by two means of them, of the shares that were drawn."""
    T = x.dtype.type
    n = x.shape[1]
    for m in range(x.shape[0]):
        for b in range(n):
            other = partner(b, counters[m, 3], n)
            share[m, b] = T(drawn[m, b, SHARE])
            if other > b:
                s, t = T(drawn[m, b, SHARE]), T(drawn[m, other, SHARE])
                pair = x[m]
                one, two = as_c(pair[b]), as_c(pair[other])
                for j in range(one.size):
                    p, q = one[j], two[j]
                    one[j] = s * p + (T(1) - s) * q
                    two[j] = t * q + (T(1) - t) * p


@kernel("b3 l2 b3")
def partners_targets(y, counters, other):
    """Copy each sample's partner's target, as bytes."""
    n = y.shape[1]
    for m in range(y.shape[0]):
        for b in range(n):
            source, target = as_c(y[m, partner(b, counters[m, 3], n)]), as_c(other[m, b])
            for j in range(target.size):
                target[j] = source[j]
