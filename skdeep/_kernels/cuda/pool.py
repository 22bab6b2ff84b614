"""Pooling and every other map from the positions of an image to positions.

As on the CPU: x is (M, N, P, C), and a table compressed by rows says which positions a result is
made of. A thread makes one result of four neighbouring channels (of one, where they are not
aligned), or gives one input to all positions that it goes to; it takes the positions of its row
four at a time, so that their loads are under way together. Tables are small and stay in cache.

Bytes that move for an element of the larger side and a window of k cells: max pooling 4 + 5 / k,
its way back as many, weighted sums 4 + 4 / k.
"""

from functools import cache

import numpy as np

from skdeep._kernels.cuda._lanes import lane_kernel
from skdeep._kernels.cuda._numba import cuda, device, float32, int32, uint8, uint32
from skdeep._kernels.cuda.array import check_span
from skdeep._kernels.cuda.program import blocks, twins

TWINS, twin = twins()
_THREADS = 256

# ---- places: the number of the winning cell, for every channel ----------------------------------


@device
def _packed(places, at):
    """Return the places of four channels, which are uint8 in one int32."""
    v = uint32(places[uint32(at >> uint32(2))])
    mask = uint32(255)
    return (
        uint32(v & mask),
        uint32(uint32(v >> uint32(8)) & mask),
        uint32(uint32(v >> uint32(16)) & mask),
        uint32(v >> uint32(24)),
    )


@device
def _pack(places, at, n):
    low = uint32(n[0] | uint32(n[1] << uint32(8)))
    high = uint32(uint32(n[2] << uint32(16)) | uint32(n[3] << uint32(24)))
    places[uint32(at >> uint32(2))] = int32(uint32(low | high))


@device
def _place(places, at):
    return (uint32(places[at]),)


@device
def _put_short(places, at, n):
    places[at] = uint8(n[0])


@device
def _put_long(places, at, n):
    places[at] = int32(n[0])


#: Dtype of the places and channels of a thread -> letter of the pointer, how to read and write.
_PLACES = {
    ("uint8", 4): ("w", _packed, _pack),
    ("uint8", 1): ("b", _place, _put_short),
    ("int32", 1): ("w", _place, _put_long),
}


@device
def _wins(b, a):
    """Return whether b is larger than a, or the first NaN of the two."""
    return a == a and not b <= a


# ---- kernels ------------------------------------------------------------------------------------

# A thread has channels from j on of position r of sample n; `own` is where they are in an array
# of as many positions.
_THREAD = """
    i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
    if i >= total:
        return
    m = uint32(cuda.blockIdx.y)
    vectors = uint32(channels // LANES)
    pixel = uint32(i // vectors)
    j = uint32(uint32(i - pixel * vectors) * LANES)
    n = uint32(pixel // positions)
    r = uint32(pixel - n * positions)
    own = uint32(r * channels + j)
"""

_RANGE = """
    s, e = uint32(start[r]), uint32(start[uint32(r + uint32(1))])
"""

# Four positions and what x has there. Beyond the end of a row its last position stands in.
_FOUR = """
        last = uint32(e - uint32(1))
        k1, k2, k3 = uint32(k + uint32(1)), uint32(k + uint32(2)), uint32(k + uint32(3))
        k1 = k1 if k1 < e else last
        k2 = k2 if k2 < e else last
        k3 = k3 if k3 < e else last
        p0 = uint32(uint32(place[k]) * channels + j)
        p1 = uint32(uint32(place[k1]) * channels + j)
        p2 = uint32(uint32(place[k2]) * channels + j)
        p3 = uint32(uint32(place[k3]) * channels + j)
        (a$, ...) = load(x, uint32(x_at + p0))
        (b$, ...) = load(x, uint32(x_at + p1))
        (c$, ...) = load(x, uint32(x_at + p2))
        (d$, ...) = load(x, uint32(x_at + p3))
"""

_NEXT = """
        k = uint32(k + uint32(4))
"""

# The number of a cell in the table stands for the cell until all are compared.
_MAX_POOL = """
    x_at = uint32(m * x_step + n * x_row)
    out_at = uint32(m * out_step + n * out_row + own)
    index_at = uint32(m * index_step + n * index_row + own)
    best$ = LEAST
    number$ = s
    k = s
    while k < e:
""" + _FOUR + """
        take$ = wins(a$, best$)
        number$, best$ = k if take$ else number$, a$ if take$ else best$
        take$ = wins(b$, best$)
        number$, best$ = k1 if take$ else number$, b$ if take$ else best$
        take$ = wins(c$, best$)
        number$, best$ = k2 if take$ else number$, c$ if take$ else best$
        take$ = wins(d$, best$)
        number$, best$ = k3 if take$ else number$, d$ if take$ else best$
""" + _NEXT + """
    store(out, out_at, (best$, ...))
    number$ = uint32(code[number$])
    put_places(index, index_at, (number$, ...))
"""  # fmt: skip

_UNPOOL = """
    x_at = uint32(m * x_step + n * x_row)
    index_at = uint32(m * index_step + n * index_row)
    sum$ = float32(0)
    k = s
    while k < e:
""" + _FOUR + """
        (na$, ...) = places(index, uint32(index_at + p0))
        (nb$, ...) = places(index, uint32(index_at + p1))
        (nc$, ...) = places(index, uint32(index_at + p2))
        (nd$, ...) = places(index, uint32(index_at + p3))
        ca, cb, cc, cd = code[k], code[k1], code[k2], code[k3]
        more1, more2, more3 = k < last, k1 < last, k2 < last
        sum$ += a$ if na$ == uint32(ca) else float32(0)
        sum$ += b$ if more1 and nb$ == uint32(cb) else float32(0)
        sum$ += c$ if more2 and nc$ == uint32(cc) else float32(0)
        sum$ += d$ if more3 and nd$ == uint32(cd) else float32(0)
""" + _NEXT + """
    store(out, uint32(m * out_step + n * out_row + own), (sum$, ...))
"""  # fmt: skip

_UNPOOL_APART = """
    (a$, ...) = load(x, uint32(m * x_step + n * x_row + own))
    (n$, ...) = places(index, uint32(m * index_step + n * index_row + own))
    out_at = uint32(m * out_step + n * out_row + j)
    for k in range(s, e):
        c = uint32(code[k])
        b$ = a$ if n$ == c else float32(0)
        store(out, uint32(out_at + uint32(place[k]) * channels), (b$, ...))
"""

_POOL_TAKE = """
    x_at = uint32(m * x_step + n * x_row + j)
    (n$, ...) = places(index, uint32(m * index_step + n * index_row + own))
    found = s
    for k in range(s, e):
        found = uint32(k) if uint32(code[k]) == n0 else found
    (a$, ...) = load(x, uint32(x_at + uint32(place[found]) * channels))
    store(out, uint32(m * out_step + n * out_row + own), (a$, ...))
"""

_COMBINE = """
    x_at = uint32(m * x_step + n * x_row)
    sum$ = float32(0)
    k = s
    while k < e:
""" + _FOUR + """
        wa, wb, wc, wd = weight[k], weight[k1], weight[k2], weight[k3]
        more1, more2, more3 = k < last, k1 < last, k2 < last
        sum$ += wa * a$
        sum$ += wb * b$ if more1 else float32(0)
        sum$ += wc * c$ if more2 else float32(0)
        sum$ += wd * d$ if more3 else float32(0)
""" + _NEXT + """
    store(out, uint32(m * out_step + n * out_row + own), (sum$, ...))
"""  # fmt: skip

_SPREAD = """
    (a$, ...) = load(x, uint32(m * x_step + n * x_row + own))
    out_at = uint32(m * out_step + n * out_row + j)
    for k in range(s, e):
        w = weight[k]
        b$ = w * a$
        store(out, uint32(out_at + uint32(place[k]) * channels), (b$, ...))
"""

_CLEAR = """
    zero$ = float32(0)
    store(out, uint32(m * out_step + n * out_row + own), (zero$, ...))
"""

_WITH_PLACES = "x start place code out index"
_WITH_WEIGHTS = "x start place weight out"
#: Name -> the arrays and the body.
_BODIES = {
    "max_pool": (_WITH_PLACES, _RANGE + _MAX_POOL),
    "unpool": (_WITH_PLACES, _RANGE + _UNPOOL),
    "unpool_apart": (_WITH_PLACES, _RANGE + _UNPOOL_APART),
    "pool_take": (_WITH_PLACES, _RANGE + _POOL_TAKE),
    "combine": (_WITH_WEIGHTS, _RANGE + _COMBINE),
    "spread": (_WITH_WEIGHTS, _RANGE + _SPREAD),
    "clear": ("out", _CLEAR),
}
_LETTERS = dict(x="f", out="f", weight="f", start="l", place="l", code="l")


@cache
def _kernel(name, lanes, places="uint8"):
    """Return a kernel, which takes arrays, sizes, and the steps of its images."""
    arrays, body = _BODIES[name]
    letter, read, write = _PLACES[places, lanes]
    spec = [_LETTERS.get(a, letter) for a in arrays.split()]
    steps = [f"{a}_{by}" for a in arrays.split() if _is_image(a) for by in ("step", "row")]
    names = [*arrays.split(), "total", "positions", "channels", *steps]
    known = {
        "cuda": cuda,
        "uint32": uint32,
        "float32": float32,
        "THREADS": _THREADS,
        "LEAST": float32(-np.inf),
        "wins": _wins,
        "places": read,
        "put_places": write,
    }
    name = f"{name}_{places}" if "index" in names else name
    source = f"def {name}({', '.join(names)}):" + _THREAD + body
    return lane_kernel(" ".join(spec + ["u"] * (3 + len(steps))), source, name, lanes, known)


def _is_image(array):
    return array in ("x", "out", "index")


def _lanes(channels, images, index):
    """Return how many channels a thread takes."""
    if channels % 4 or not all(a.aligned() for a in images if a is not index):
        return 1
    return 4 if index is None or (index.dtype == np.uint8 and index.aligned(4)) else 1


def _launches(name, by, **arrays):
    """Return the launch of a kernel with a thread for each vector of channels of an array."""
    members, samples, positions, channels = arrays[by].shape
    images = [a for key, a in arrays.items() if _is_image(key)]
    if not arrays["out"].size:
        return []
    check_span(*images)
    index = arrays.get("index")
    places = "uint8" if index is None else index.dtype.name
    lanes = 1 if name == "pool_take" else _lanes(channels, images, index)
    if index is not None and lanes == 4:
        shape, strides = (*index.shape[:3], channels // 4), (*index.strides[:3], 4)
        arrays["index"] = index.view(shape, strides, 0, np.int32)
    total = samples * positions * channels // lanes
    numbers = [total, positions, channels, *(a.step(axis) for a in images for axis in (0, 1))]
    grid = blocks(total, _THREADS), members
    return [_kernel(name, lanes, places)(grid, *arrays.values(), *numbers)]


def _cleared(out, place):
    """Return the launches that clear an array if not every position of it is in a table."""
    return _launches("clear", "out", out=out) if place.size < out.shape[2] else []


# ---- the twins ----------------------------------------------------------------------------------


def _by_place(name, by, x, index, table, out):
    start, place, code = table
    arrays = dict(x=x, start=start, place=place, code=code, out=out, index=index)
    return _launches(name, by, **arrays)


def _max_pool(x, start, place, code, out, index):
    """The largest of each window and its place."""
    return _by_place("max_pool", "out", x, index, (start, place, code), out)


def _unpool(ct, index, start, place, code, out):
    """Sum what the windows over each position give it, if theirs is its place."""
    return _by_place("unpool", "out", ct, index, (start, place, code), out)


def _unpool_apart(ct, index, start, place, code, out):
    """`unpool` where no two windows share a cell, by the table of the windows' cells."""
    cleared = _cleared(out, place)
    return cleared + _by_place("unpool_apart", "x", ct, index, (start, place, code), out)


def _pool_take(x, index, start, place, code, out):
    """Take from each window what stands at a place of it."""
    return _by_place("pool_take", "out", x, index, (start, place, code), out)


for _dtype in ("uint8", "int32"):
    twin(f"max_pool_{_dtype}")(_max_pool)
    twin(f"unpool_{_dtype}")(_unpool)
    twin(f"unpool_apart_{_dtype}")(_unpool_apart)
    twin(f"pool_take_{_dtype}")(_pool_take)


@twin()
def combine(x, start, place, weight, out):
    """Weighted sums of positions."""
    return _launches("combine", "out", x=x, start=start, place=place, weight=weight, out=out)


@twin()
def spread(x, start, place, weight, out):
    """`combine` for results of one position at most, by the table of what each is given to."""
    arrays = dict(x=x, start=start, place=place, weight=weight, out=out)
    return _cleared(out, place) + _launches("spread", "x", **arrays)


def catalogue():
    """Return the kernels that nets ask for."""
    by_place = [_kernel(*key) for key in _keys()]
    others = [_kernel(name, n) for name in ("combine", "spread", "clear") for n in (1, 4)]
    return [*by_place, *others]


def _keys():
    """Return the name, lanes and places of the kernels that know places."""
    for name in ("max_pool", "unpool", "unpool_apart", "pool_take"):
        for places, lanes in _PLACES:
            if name != "pool_take" or lanes == 1:
                yield name, lanes, places
