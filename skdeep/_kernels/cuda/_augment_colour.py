"""Augmentation's colours: brightness, contrast, saturation, and the turn of the hue."""

from skdeep._kernels.cpu.augment import BRIGHTNESS, CONTRAST, HUE, SATURATION
from skdeep._kernels.cuda._augment_draw import drawn_number, floor, less_one, row_of
from skdeep._kernels.cuda._numba import cuda, device, float32, kernel, uint32, uint64
from skdeep._kernels.cuda._sums import block_sum
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.program import blocks

_THREADS = 256
#: The pixels that a block has, of one image.
_PIXELS = 4096

# ---- colours ----------------------------------------------------------------------------------

#: Luma of ITU-R 601, the weights of grey.
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114


@device
def _luma(r, g, b):
    return float32(_RED) * r + float32(_GREEN) * g + float32(_BLUE) * b


@device
def _pixel_at(q, width, row, bands):
    """Return where pixel q of an image is, from the image's beginning on."""
    i = uint32(q // width)
    return uint64(i) * uint64(row) + uint64(uint32(uint32(q - i * width) * bands))


@device
def _share_of(pixels):
    """Return the first pixel of this block's part of an image, and the one behind its last."""
    first = uint32(uint32(cuda.blockIdx.x) * uint32(_PIXELS))
    stop = uint32(first + uint32(_PIXELS))
    return uint32(first + uint32(cuda.threadIdx.x)), stop if stop < pixels else pixels


@kernel("f d f u u u u u u u u u")
def _part_sums(
    x, drawn, parts, x_member, x_sample, x_row, drawn_member, drawn_step, samples, width, pixels,
    bands,
):  # fmt: skip
    b, m = uint32(cuda.blockIdx.y), uint32(cuda.blockIdx.z)
    if less_one(drawn, row_of(m, b, drawn_member, drawn_step), CONTRAST) == float32(0):
        return
    image, total = row_of(m, b, x_member, x_sample), float32(0)
    q, stop = _share_of(pixels)
    while q < stop:
        at = image + _pixel_at(q, width, x_row, bands)
        if bands == uint32(3):
            total += _luma(x[at], x[at + uint64(1)], x[at + uint64(2)])
        else:
            total += x[at]
        q = uint32(q + uint32(_THREADS))
    total = block_sum(total)
    if uint32(cuda.threadIdx.x) == uint32(0):
        count = uint64(uint32(cuda.gridDim.x))
        parts[row_of(m, b, samples, 1) * count + uint64(uint32(cuda.blockIdx.x))] = total


@device
def _channel(n, hue, largest, chroma):
    """Return the channel (5 for red, 3 green, 1 blue) of a hue in sixths of a turn."""
    k = n + hue
    k -= float32(6) * floor(k * float32(1 / 6))
    k = float32(4) - k if float32(4) - k < k else k
    k = float32(1) if k > float32(1) else k
    return largest - chroma * (float32(0) if k < float32(0) else k)


@device
def _turn_hue(r, g, b, turn):
    """Return a pixel whose hue is turned, at equal value and chroma."""
    largest = r if r > g else g
    largest = b if b > largest else largest
    least = r if r < g else g
    chroma = largest - (b if b < least else least)
    inverse = float32(1) / chroma if chroma > float32(0) else float32(0)
    hue = float32(2) + (b - r) * inverse
    hue = (g - b) * inverse if largest == r else hue
    hue = float32(4) + (r - g) * inverse if largest == b else hue
    hue += turn
    red = _channel(float32(5), hue, largest, chroma)
    green = _channel(float32(3), hue, largest, chroma)
    return red, green, _channel(float32(1), hue, largest, chroma)


@device
def _bounded(x, bounds):
    x = bounds[0] if x < bounds[0] else x
    return bounds[1] if x > bounds[1] else x


@kernel("f d f f u u u u u u u u u")
def _recolour(
    x, drawn, bounds, parts, x_member, x_sample, x_row, drawn_member, drawn_step, samples, width,
    pixels, bands,
):  # fmt: skip
    # 8 bytes a number of the images that change.
    b, m = uint32(cuda.blockIdx.y), uint32(cuda.blockIdx.z)
    at = row_of(m, b, drawn_member, drawn_step)
    bright, contrast = drawn_number(drawn, at, BRIGHTNESS), drawn_number(drawn, at, CONTRAST)
    saturation = drawn_number(drawn, at, SATURATION)
    turn = float32(6) * drawn_number(drawn, at, HUE)
    flat, dull = less_one(drawn, at, CONTRAST), less_one(drawn, at, SATURATION)
    neutral = flat == float32(0) and dull == float32(0)
    linear = not neutral or less_one(drawn, at, BRIGHTNESS) != float32(0)
    if bands != uint32(3):
        turn, dull = float32(0), float32(0)
    if not linear and turn == float32(0):
        return
    shift = float32(0)
    if flat != float32(0):
        count = uint32(cuda.gridDim.x)
        mean, place = float32(0), row_of(m, b, samples, 1) * uint64(count)
        for i in range(count):
            mean += parts[place + uint64(i)]
        shift = flat * bright * (mean / float32(pixels))
    grey, scale = bright * contrast * dull, bright * contrast * saturation
    image = row_of(m, b, x_member, x_sample)
    q, stop = _share_of(pixels)
    while q < stop:
        k = image + _pixel_at(q, width, x_row, bands)
        if bands == uint32(3):
            red, green, blue = x[k], x[k + uint64(1)], x[k + uint64(2)]
            if linear:
                level = grey * _luma(red, green, blue) + shift
                red = _bounded(scale * red + level, bounds)
                green = _bounded(scale * green + level, bounds)
                blue = _bounded(scale * blue + level, bounds)
            if turn != float32(0):
                red, green, blue = _turn_hue(red, green, blue, turn)
            x[k], x[k + uint64(1)], x[k + uint64(2)] = red, green, blue
        else:
            x[k] = _bounded(scale * x[k] + shift, bounds)
        q = uint32(q + uint32(_THREADS))


def colour(x, drawn, channels, bounds, total):
    """Change brightness, contrast and saturation, bring into bounds, and turn the hue.

    Means are sums of at most 16 numbers a thread, then of a block, then of blocks one by one.
    """
    members, samples, height, size = x.shape
    if not x.size:
        return []
    bands = 3 if channels == 3 else 1
    width, row = size // bands, x.step(2)
    if height == 1 or row == size:  # one long row: no remainders
        width, row = height * width, 0
    pixels = height * (size // bands)
    count = blocks(pixels, _PIXELS)
    parts = scratch(x).take((members, samples, count))
    numbers = [
        x.step(0), x.step(1), row, drawn.step(0), drawn.step(1), samples, width, pixels, bands
    ]  # fmt: skip
    grid = count, samples, members
    return [
        _part_sums(grid, x, drawn, parts, *numbers),
        _recolour(grid, x, drawn, bounds, parts, *numbers),
    ]


KERNELS = [_part_sums, _recolour]
