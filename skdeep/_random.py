"""Seeds and streams on the host: what fixes a net's draws before its training begins.

Every member of a fit has a 64-bit seed. Its initial weights, the order of its samples in every
epoch and, inside a step, its masks (`skdeep.autodiff.ops.random`) are pure functions of that
seed, so a member draws the same whether it trains alone or among others, and a fit resumes from
its counters alone.
"""

import operator

import numpy as np
from sklearn.utils import check_random_state

# Streams of a seed's host-side generator; callers of `generator` choose theirs from 0 up.
_PERMUTATION = (1 << 63) - 1
_MASK = (1 << 64) - 1


def member_seeds(random_state, n):
    """Draw the seeds of the members of a fit.

    Parameters
    ----------
    random_state : int, RandomState, Generator or None
        As in scikit-learn; a Generator is also taken. None draws from NumPy's global state.
    n : int
        The number of members.

    Returns
    -------
    ndarray of int64, shape (n,)
        Non-negative seeds; the first k of them do not depend on `n` for an int `random_state`.

    Raises
    ------
    ValueError
        If `random_state` cannot seed a RandomState.

    Examples
    --------
    >>> from skdeep._random import member_seeds
    >>> bool((member_seeds(0, 3)[:2] == member_seeds(0, 2)).all())
    True
    """
    if isinstance(random_state, np.random.Generator):
        return random_state.integers(0, 2**63, n, dtype=np.int64)
    return check_random_state(random_state).randint(0, 2**63, n, dtype=np.int64)


def generator(seed, stream=0, epoch=0):
    """Return the generator of a stream of a member's seed.

    Parameters
    ----------
    seed : int
        The member's seed; any int64.
    stream : int, default=0
        The number of the use, from 0 up to 2^63 - 2: streams are independent.
    epoch : int, default=0
        The number of the epoch, for streams that are drawn anew in each.

    Returns
    -------
    numpy.random.Generator
        Over Philox4x64-10 with the key (seed, stream) and a counter that begins at the epoch.

    Raises
    ------
    ValueError
        If `stream` or `epoch` is negative.

    Examples
    --------
    >>> from skdeep._random import generator
    >>> generator(7, 1).random() == generator(7, 1).random() != generator(7, 2).random()
    True
    """
    for name, value in (("stream", stream), ("epoch", epoch)):
        if value < 0:
            raise ValueError(f"{name}={value} must be 0 or more")
    key = operator.index(seed) & _MASK | operator.index(stream) << 64
    # The counter has 256 bits: an epoch has 2^192 draws before it meets the next.
    return np.random.Generator(np.random.Philox(key=key, counter=operator.index(epoch) << 192))


def permutation(seed, epoch, n):
    """Return the order in which an epoch visits its samples.

    Parameters
    ----------
    seed : int
        The member's seed.
    epoch : int
        The number of the epoch, from 0.
    n : int
        The number of samples.

    Returns
    -------
    ndarray of int64, shape (n,)
        A permutation of ``range(n)``, a pure function of the arguments.

    Raises
    ------
    ValueError
        If `epoch` is negative.

    Examples
    --------
    >>> from skdeep._random import permutation
    >>> sorted(int(i) for i in permutation(seed=3, epoch=0, n=4))
    [0, 1, 2, 3]
    """
    return generator(seed, _PERMUTATION, epoch).permutation(n)
