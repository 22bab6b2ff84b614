"""Minibatches: gathering rows, weights, counters and the running sum of the loss.

The counters of a member are steps made, step within the epoch, row cursor, and the first row of
the part of the step's batch that is computed (0 where it is computed in one part).
"""

from skdeep._kernels.cpu._numba import as_c, kernel


@kernel("f2 l2 l2 f3")
def gather(x, order, counters, out):
    """Copy each member's batch of rows of x: its order from its row cursor on."""
    for m in range(out.shape[0]):
        batch, rows = as_c(out[m]), as_c(order[m])
        start = counters[m, 2] + counters[m, 3]
        for i in range(batch.shape[0]):
            row, source = batch[i], as_c(x[rows[start + i]])
            for j in range(row.size):
                row[j] = source[j]


@kernel("f1 l1 l1 l2 l2 f3")
def gather_csr(data, indices, indptr, order, counters, out):
    """Copy each member's batch of rows of a CSR matrix, densely."""
    for m in range(out.shape[0]):
        batch, rows = as_c(out[m]), as_c(order[m])
        start = counters[m, 2] + counters[m, 3]
        for i in range(batch.shape[0]):
            row, r = batch[i], rows[start + i]
            for j in range(row.size):
                row[j] = 0
            for k in range(indptr[r], indptr[r + 1]):
                row[indices[k]] += data[k]


@kernel("l1 l2 l2 l2")
def gather_labels(y, order, counters, out):
    """Copy each member's batch of integer labels."""
    for m in range(out.shape[0]):
        start = counters[m, 2] + counters[m, 3]
        for i in range(out.shape[1]):
            out[m, i] = y[order[m, start + i]]


@kernel("f1 l2 l2 f2 f1")
def gather_weights(weight, order, counters, out, scale):
    """Copy a batch of sample weights divided by their sum, and keep one over the sum.

    A batch whose weights are all zero has scale 0: it moves nothing.
    """
    for m in range(out.shape[0]):
        w, start, total = as_c(out[m]), counters[m, 2], 0.0
        for i in range(w.size):
            w[i] = weight[order[m, start + i]]
            total += w[i]
        scale[m] = 1 / total if total > 0 else 0
        for i in range(w.size):
            w[i] *= scale[m]


@kernel("l2 i l2")
def part_counters(counters, first, out):
    """out = the counters, for the part of the batch that begins at row `first`."""
    for m in range(out.shape[0]):
        for j in range(3):
            out[m, j] = counters[m, j]
        out[m, 3] = first


@kernel("f2 l2 f2")
def take_weights(weight, counters, out):
    """Copy the weights of a part of the batch from those of the whole."""
    for m in range(out.shape[0]):
        w, o, start = as_c(weight[m]), as_c(out[m]), counters[m, 3]
        for i in range(o.size):
            o[i] = w[start + i]


@kernel("f2 f2 f1 i g2 l2")
def account(each, weights, penalty, batch, totals, counters):
    """End a part of a step: add its loss to the epoch's total, move the counters on.

    The total is of the mean loss plus penalty, times the batch's size. With the last part the
    step is made. The counters move inside the program, last, so that a replay needs no new
    argument.
    """
    for m in range(each.shape[0]):
        s = 0.0
        for i in range(each.shape[1]):
            s += each[m, i] * weights[m, i]
        counters[m, 3] += each.shape[1]
        if counters[m, 3] >= batch:
            s += penalty[m]
            counters[m, 0] += 1
            counters[m, 1] += 1
            counters[m, 2] += batch
            counters[m, 3] = 0
        totals[m, 0] += batch * s
