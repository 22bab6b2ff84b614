"""Minibatches: gathering rows, weights, counters and the running sum of the loss."""

from skdeep._kernels.cpu._numba import as_c, kernel


@kernel("f2 l2 l2 f3")
def gather(x, order, counters, out):
    """Copy each member's batch of rows of x: its order from its row cursor on."""
    for m in range(out.shape[0]):
        batch, rows, start = as_c(out[m]), as_c(order[m]), counters[m, 2]
        for i in range(batch.shape[0]):
            row, source = batch[i], as_c(x[rows[start + i]])
            for j in range(row.size):
                row[j] = source[j]


@kernel("f1 l1 l1 l2 l2 f3")
def gather_csr(data, indices, indptr, order, counters, out):
    """Copy each member's batch of rows of a CSR matrix, densely."""
    for m in range(out.shape[0]):
        batch, rows, start = as_c(out[m]), as_c(order[m]), counters[m, 2]
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
        start = counters[m, 2]
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


@kernel("f2 f2 f1 g2 l2")
def account(each, weights, penalty, totals, counters):
    """End a step: add the batch's loss and penalty to the epoch's total, move the counters on.

    The total is of the mean loss plus penalty, times the batch's size; the counters are steps
    made, step within the epoch, row cursor. They move inside the program, last, so that a replay
    needs no new argument.
    """
    batch = each.shape[1]
    for m in range(each.shape[0]):
        s = 0.0
        for i in range(batch):
            s += each[m, i] * weights[m, i]
        totals[m, 0] += batch * (s + penalty[m])
        counters[m, 0] += 1
        counters[m, 1] += 1
        counters[m, 2] += batch
