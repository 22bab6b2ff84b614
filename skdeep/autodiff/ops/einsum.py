"""Einstein summation, reduced to transposes, sums, products and matrix products."""

import string

import numpy as np

from skdeep.autodiff._trace import ndim, shape
from skdeep.autodiff.ops._implements import as_array, implements
from skdeep.autodiff.ops.elementwise import times
from skdeep.autodiff.ops.products import matmul_p
from skdeep.autodiff.ops.shape import index, reshape, sum_, transpose


@implements(np.einsum)
def einsum(*operands, optimize=True):
    """Sum products of elements over named axes, in a good order of pairs."""
    inputs, output, arrays = _parsed(operands)
    sizes = _sizes(inputs, arrays)
    terms = [
        _simplified(a, labels, sizes, set(output).union(*inputs[:i], *inputs[i + 1 :]))
        for i, (labels, a) in enumerate(zip(inputs, arrays, strict=True))
    ]
    for group in _order(terms, output, sizes):
        chosen = [terms[i] for i in group]
        terms = [t for i, t in enumerate(terms) if i not in group]
        while len(chosen) > 1:
            left, right, *chosen = chosen
            wanted = set(output).union(*(s for s, _ in (*terms, *chosen)))
            chosen.insert(0, _contracted(left, right, wanted))
        terms += chosen
    labels, x = terms[0]
    labels, x = _summed(labels, x, set(output))
    return transpose(x, [labels.index(c) for c in output])


def _parsed(operands):
    """Return one string of labels per operand, that of the output, and the operands."""
    if isinstance(operands[0], str):
        text, arrays = operands[0].replace(" ", ""), [as_array(a) for a in operands[1:]]
    else:
        text, arrays = _from_lists(operands)
    left, arrow, output = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(arrays):
        raise ValueError(f"numpy.einsum: {text!r} names {len(inputs)} operands, not {len(arrays)}")
    free = iter(c for c in string.ascii_letters if c not in text)
    n = max(
        [0, *(ndim(a) - len(s) + 3 for s, a in zip(inputs, arrays, strict=True) if "..." in s)]
    )
    dots = "".join(next(free) for _ in range(n))
    full = []
    for s, a in zip(inputs, arrays, strict=True):
        missing = ndim(a) - len(s.replace("...", ""))
        full.append(s.replace("...", dots[n - missing :] if missing else ""))
        if len(full[-1]) != ndim(a):
            raise ValueError(f"numpy.einsum: {s!r} does not fit an operand of {ndim(a)} axes")
    if arrow:
        return full, output.replace("...", dots), arrays
    once = sorted(c for c in set("".join(inputs)) - {"."} if left.count(c) == 1)
    return full, dots + "".join(once), arrays


def _from_lists(operands):
    """Turn (a, [0, 1], b, [1, 2], [0, 2]) into a string of labels and the arrays."""

    def letters(labels):
        return "".join("..." if k is Ellipsis else string.ascii_letters[k] for k in labels)

    pairs = len(operands) // 2
    text = ",".join(letters(operands[2 * i + 1]) for i in range(pairs))
    if len(operands) % 2:
        text += "->" + letters(operands[-1])
    return text, [as_array(operands[2 * i]) for i in range(pairs)]


def _sizes(inputs, arrays):
    """Return the length of every label; a length of one broadcasts."""
    sizes = {}
    for labels, a in zip(inputs, arrays, strict=True):
        for c, d in zip(labels, shape(a), strict=True):
            if sizes.get(c, 1) != 1 and d not in (1, sizes[c]):
                raise ValueError(f"numpy.einsum: label {c!r} has the lengths {sizes[c]} and {d}")
            sizes[c] = max(sizes.get(c, 1), d) if d else 0
    return sizes


def _simplified(x, labels, sizes, needed):
    """Take diagonals of repeated labels, drop broadcast axes, sum what nobody else names."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            key = [slice(None)] * len(labels)
            key[i] = key[j] = np.arange(sizes[c])
            # Two index arrays that stand apart put their axis first.
            at = i if j == i + 1 else 0
            x = index(x, key=tuple(key))
            rest = [q for k, q in enumerate(labels) if k not in (i, j)]
            labels = "".join([*rest[:at], c, *rest[at:]])
    stretched = [c for c, d in zip(labels, shape(x), strict=True) if d == 1 != sizes[c]]
    if stretched:
        s = [d for c, d in zip(labels, shape(x), strict=True) if c not in stretched]
        x, labels = reshape(x, s), "".join(c for c in labels if c not in stretched)
    return _summed(labels, x, needed)


def _summed(labels, x, needed):
    """Sum over the labels that nobody needs."""
    gone = tuple(i for i, c in enumerate(labels) if c not in needed)
    if gone:
        x = sum_(x, gone)
    return "".join(c for c in labels if c in needed), x


def _order(terms, output, sizes):
    """Return which terms to contract, one group after the other."""
    if len(terms) < 3:
        return [(0, 1)][: len(terms) - 1]
    text = ",".join(s for s, _ in terms) + "->" + output
    dummies = [np.broadcast_to(0.0, [sizes[c] for c in s]) for s, _ in terms]
    return np.einsum_path(text, *dummies, optimize="greedy")[0][1:]


def _contracted(left, right, needed):
    """Multiply two terms and sum over the labels that only they name."""
    (s, x), (t, y) = left, right
    summed = [c for c in s if c in t and c not in needed]
    batch = [c for c in s if c in t and c in needed]
    rows = [c for c in s if c not in t]
    columns = [c for c in t if c not in s]
    length = {**dict(zip(s, shape(x), strict=True)), **dict(zip(t, shape(y), strict=True))}

    def sized(labels):
        return [length[c] for c in labels]

    def grouped(z, labels, *groups):
        z = transpose(z, [labels.index(c) for g in groups for c in g])
        return reshape(z, [*sized(batch), *(int(np.prod(sized(g))) for g in groups[1:])])

    out = "".join(batch + rows + columns)
    if summed:
        z = matmul_p(grouped(x, s, batch, rows, summed), grouped(y, t, batch, summed, columns))
    else:
        z = times(
            reshape(grouped(x, s, batch, rows), [*sized(batch), -1, 1]),
            reshape(grouped(y, t, batch, columns), [*sized(batch), 1, -1]),
        )
    return out, reshape(z, sized(out))
