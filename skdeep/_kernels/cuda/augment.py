"""Augmentation of image batches in place: draws, one affine map, colours, cutout, mixup.

See the module of the CPU for the arrays. A member has at most 65535 images a batch.
"""

from skdeep._kernels.cpu.augment import (
    CROP_X,
    CROP_Y,
    CUTOUT_X,
    CUTOUT_Y,
    FLIP_X,
    FLIP_Y,
    ROTATION,
    SHARE,
    SHEAR,
    SHIFT_X,
    SHIFT_Y,
    ZOOM,
)
from skdeep._kernels.cuda import _augment_colour, _augment_draw
from skdeep._kernels.cuda._augment_draw import drawn_number, floor, row_of, sine_and_cosine
from skdeep._kernels.cuda._intrinsics import load4, store4
from skdeep._kernels.cuda._numba import cuda, device, float32, int32, kernel, uint32, uint64
from skdeep._kernels.cuda.array import scratch
from skdeep._kernels.cuda.program import blocks, twins

TWINS, twin = twins()
_THREADS = 256

twin("draw")(_augment_draw.draw)
twin("colour")(_augment_colour.colour)


# ---- the affine map ---------------------------------------------------------------------------
# A map: whether it moves anything, then yy, yx, oy, xy, xx, ox: output pixel (i, j) shows source
# (cy + yy (i - oy) + yx (j - ox), cx + xy (i - oy) + xx (j - ox)), c being the centre.
_MAP = 8


@device
def _moves(drawn, at):
    """Return whether a sample's map moves anything."""
    still = (
        drawn_number(drawn, at, FLIP_Y) == float32(0)
        and drawn_number(drawn, at, FLIP_X) == float32(0)
        and drawn_number(drawn, at, ROTATION) == float32(0)
        and drawn_number(drawn, at, SHEAR) == float32(0)
        and drawn_number(drawn, at, ZOOM) == float32(1)
        and drawn_number(drawn, at, SHIFT_Y) + drawn_number(drawn, at, CROP_Y) == float32(0)
        and drawn_number(drawn, at, SHIFT_X) + drawn_number(drawn, at, CROP_X) == float32(0)
    )
    return not still


@device
def _put_map(drawn, at, maps, place, height, width):
    """Write a sample's map, the inverse of flip, zoom, shear, turn and shift."""
    sin, cos = sine_and_cosine(drawn_number(drawn, at, ROTATION) / float32(360))
    up, along = sine_and_cosine(drawn_number(drawn, at, SHEAR) / float32(360))
    shear, zoom = up / along, drawn_number(drawn, at, ZOOM)
    flip_y = (float32(1) - float32(2) * drawn_number(drawn, at, FLIP_Y)) / zoom
    flip_x = (float32(1) - float32(2) * drawn_number(drawn, at, FLIP_X)) / zoom
    shift_y = drawn_number(drawn, at, SHIFT_Y) + drawn_number(drawn, at, CROP_Y)
    shift_x = drawn_number(drawn, at, SHIFT_X) + drawn_number(drawn, at, CROP_X)
    maps[place + uint64(1)] = flip_y * cos
    maps[place + uint64(2)] = flip_y * sin
    maps[place + uint64(3)] = float32(0.5) * (float32(height) - float32(1)) + shift_y
    maps[place + uint64(4)] = flip_x * (-sin - shear * cos)
    maps[place + uint64(5)] = flip_x * (cos - shear * sin)
    maps[place + uint64(6)] = float32(0.5) * (float32(width) - float32(1)) + shift_x


@kernel("f d f f u u u u u u u u u u u")
def _copy_images(
    x, drawn, images, maps, x_member, x_sample, x_row, drawn_member, drawn_step, samples, height,
    width, size, count, wide,
):  # fmt: skip
    # 8 bytes an element of the images that move. `size` and `count` (of a row and of an image)
    # are in vectors where they are wide.
    b, m = uint32(cuda.blockIdx.y), uint32(cuda.blockIdx.z)
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    at, sample = row_of(m, b, drawn_member, drawn_step), row_of(m, b, samples, 1)
    moves = _moves(drawn, at)
    if i == uint32(0):
        maps[sample * uint64(_MAP)] = float32(1) if moves else float32(0)
        _put_map(drawn, at, maps, sample * uint64(_MAP), height, width)
    if not moves or i >= count:
        return
    row = uint32(i // size)
    source = row_of(m, b, x_member, x_sample) + uint64(row) * uint64(x_row)
    j, target = uint64(uint32(i - row * size)), sample * uint64(count) + uint64(i)
    if wide != uint32(0):
        store4(images, uint64(4) * target, load4(x, source + uint64(4) * j))
    else:
        images[target] = x[source + j]


@device
def _source(image, at, y, x, c, height, width, channels, fill):
    """Return a number of an image, or what stands beyond its border."""
    if uint32(y) >= height or uint32(x) >= width:  # what is negative is beyond, too
        return fill
    pixel = uint32(uint32(y) * width + uint32(x))
    return image[at + uint64(uint32(pixel * channels + c))]


@device
def _within(x, last, margin):
    """Return a coordinate, brought to at most `margin` beyond the border."""
    x = -margin if x < -margin else x
    return last + margin if x > last + margin else x


@kernel("f f f f u u u u u u u u")
def _warp(
    x, images, maps, fill, x_member, x_sample, x_row, samples, height, width, channels, edge
):
    # A thread for a number, not a pixel: neighbours write and mostly read neighbours.
    b, m = uint32(cuda.blockIdx.y), uint32(cuda.blockIdx.z)
    e = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    sample, size = row_of(m, b, samples, 1), uint32(width * channels)
    i = uint32(e // size)
    place = sample * uint64(_MAP)
    if i >= height or maps[place] == float32(0):
        return
    column = uint32(e - i * size)
    j = uint32(column // channels)
    c = uint32(column - j * channels)
    last_y, last_x = float32(height) - float32(1), float32(width) - float32(1)
    margin = float32(0) if edge != uint32(0) else float32(1)
    y, z = float32(i) - maps[place + uint64(3)], float32(j) - maps[place + uint64(6)]
    sy = maps[place + uint64(1)] * y + maps[place + uint64(2)] * z + float32(0.5) * last_y
    sx = maps[place + uint64(4)] * y + maps[place + uint64(5)] * z + float32(0.5) * last_x
    sy, sx = _within(sy, last_y, margin), _within(sx, last_x, margin)
    floor_y, floor_x = floor(sy), floor(sx)
    v, u = sy - floor_y, sx - floor_x
    iy, ix = int32(floor_y), int32(floor_x)
    at, beyond = sample * uint64(uint32(height * size)), fill[0]
    value = _source(images, at, iy, ix, c, height, width, channels, beyond)
    if u != float32(0) or v != float32(0):  # a whole pixel does not meet its neighbours
        jy, jx = iy + int32(1), ix + int32(1)
        right = _source(images, at, iy, jx, c, height, width, channels, beyond)
        lower = _source(images, at, jy, ix, c, height, width, channels, beyond)
        corner = _source(images, at, jy, jx, c, height, width, channels, beyond)
        upper, lower = value + u * (right - value), lower + u * (corner - lower)
        value = upper + v * (lower - upper)
    target = row_of(m, b, x_member, x_sample) + uint64(i) * uint64(x_row)
    x[target + uint64(column)] = value


@twin()
def warp(x, drawn, channels, fill, edge, image, corner, weight):
    """Show each image through its map, bilinearly; whole pixels are copied as they are.

    The CPU's scratch is not used: a copy of all images is, which the map reads.
    """
    members, samples, height, size = x.shape
    if not x.size:
        return []
    memory = scratch(x)
    images, maps = memory.take(x.shape), memory.take((members, samples, _MAP))
    width, wide = size // channels, size % 4 == 0 and x.aligned()
    row = size // 4 if wide else size
    steps, out = [x.step(0), x.step(1), x.step(2)], [drawn.step(0), drawn.step(1)]
    sides = samples, height, width
    return [
        _copy_images(
            (blocks(height * row, _THREADS), samples, members),
            x, drawn, images, maps, *steps, *out, *sides, row, height * row, int(wide),
        ),
        _warp(
            (blocks(height * size, _THREADS), samples, members),
            x, images, maps, fill, *steps, *sides, channels, edge,
        ),
    ]  # fmt: skip


# ---- cutout and mixup -------------------------------------------------------------------------


@kernel("f d f u u u u u u u u u u")
def _cutout(
    x, drawn, fill, x_member, x_sample, x_row, drawn_member, drawn_step, height, width, channels,
    tall, across,
):  # fmt: skip
    # A thread for a number of the rectangle, which is `tall` by `across` pixels.
    b, m = uint32(cuda.blockIdx.y), uint32(cuda.blockIdx.z)
    e = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    row = uint32(e // uint32(across * channels))
    if row >= tall:
        return
    column = uint32(e - row * uint32(across * channels))
    at = row_of(m, b, drawn_member, drawn_step)
    i = int32(drawn_number(drawn, at, CUTOUT_Y)) + int32(row) - int32(tall // uint32(2))
    left = int32(drawn_number(drawn, at, CUTOUT_X)) - int32(across // uint32(2))
    j = left * int32(channels) + int32(column)
    if uint32(i) < height and uint32(j) < uint32(width * channels):  # not negative, either
        target = row_of(m, b, x_member, x_sample) + uint64(uint32(i)) * uint64(x_row)
        x[target + uint64(uint32(j))] = fill[0]


@twin()
def cutout(x, drawn, channels, height, width, fill):
    """Fill a rectangle of each image, whose centre was drawn, as far as it is in the image."""
    members, samples, rows, size = x.shape
    if not x.size * height * width:
        return []
    steps = x.step(0), x.step(1), x.step(2), drawn.step(0), drawn.step(1)
    grid = blocks(height * width * channels, _THREADS), samples, members
    sides = rows, size // channels, channels, height, width
    return [_cutout(grid, x, drawn, fill, *steps, *sides)]


@device
def _partner(i, place, n):
    """Return with whom sample i of n is mixed: places 2k and 2k + 1 of the step are a pair."""
    odd = uint32(uint32(place + i) % uint32(2)) == uint32(1)
    other = uint32(i - uint32(1)) if odd else uint32(i + uint32(1))
    return other if other < n else i  # before the first is beyond the last


@kernel("f d l f u u u u u u u u u")
def _mix(
    x, drawn, counters, share, x_member, x_sample, drawn_member, drawn_step, counters_step,
    share_step, samples, size, wide,
):  # fmt: skip
    # 16 bytes for a pair of numbers; the later of a pair has blocks that end at once.
    b, m = uint32(cuda.blockIdx.y), uint32(cuda.blockIdx.z)
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    place = uint32(counters[uint64(m) * uint64(counters_step) + uint64(3)])
    other = _partner(b, place, samples)
    s = drawn_number(drawn, row_of(m, b, drawn_member, drawn_step), SHARE)
    if i == uint32(0):
        share[row_of(m, b, share_step, 1)] = s
    if other <= b or i >= size:
        return
    t = drawn_number(drawn, row_of(m, other, drawn_member, drawn_step), SHARE)
    one, two = row_of(m, b, x_member, x_sample), row_of(m, other, x_member, x_sample)
    if wide != uint32(0):
        at = uint64(4) * uint64(i)
        p, q = load4(x, one + at), load4(x, two + at)
        store4(x, one + at, _means(p, q, s))
        store4(x, two + at, _means(q, p, t))
    else:
        p, q = x[one + uint64(i)], x[two + uint64(i)]
        x[one + uint64(i)] = s * p + (float32(1) - s) * q
        x[two + uint64(i)] = t * q + (float32(1) - t) * p


@device
def _means(p, q, s):
    r = float32(1) - s
    return s * p[0] + r * q[0], s * p[1] + r * q[1], s * p[2] + r * q[2], s * p[3] + r * q[3]


@twin()
def mix(x, drawn, counters, share):
    """Replace the samples of each pair by two means of them, of the shares that were drawn."""
    members, samples, size = x.shape
    if not samples:
        return []
    wide = size % 4 == 0 and x.aligned()
    size //= 4 if wide else 1
    arrays = x.step(0), x.step(1), drawn.step(0), drawn.step(1), counters.step(0), share.step(0)
    grid = blocks(size, _THREADS), samples, members
    return [_mix(grid, x, drawn, counters, share, *arrays, samples, size, int(wide))]


@kernel("b l b u u u u u u u")
def _partners_targets(
    y,
    counters,
    other,
    y_member,
    y_sample,
    counters_step,
    other_member,
    other_sample,
    samples,
    size,
):
    m = uint64(cuda.blockIdx.y)
    i = uint32(uint32(cuda.blockIdx.x) * uint32(_THREADS) + uint32(cuda.threadIdx.x))
    b = uint32(i // size)
    if b < samples:
        place = uint32(counters[m * uint64(counters_step) + uint64(3)])
        j = uint64(uint32(i - b * size))
        source = row_of(m, _partner(b, place, samples), y_member, y_sample)
        other[row_of(m, b, other_member, other_sample) + j] = y[source + j]


@twin()
def partners_targets(y, counters, other):
    """Copy each sample's partner's target, as bytes."""
    members, samples, size = y.shape
    if not samples * size:
        return []
    steps = y.step(0), y.step(1), counters.step(0), other.step(0), other.step(1)
    grid = blocks(samples * size, _THREADS), members
    return [_partners_targets(grid, y, counters, other, *steps, samples, size)]


def catalogue():
    """Return every kernel."""
    own = [_copy_images, _warp, _cutout, _mix, _partners_targets]
    return [*_augment_draw.KERNELS, *_augment_colour.KERNELS, *own]
