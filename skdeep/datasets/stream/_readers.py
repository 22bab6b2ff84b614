"""Threads that read several lanes of blocks ahead, in an order that timing cannot change."""

import threading
from collections import deque

#: Seconds to wait for a reader's end; one that is stuck in a system call dies with the process.
PATIENCE = 5.0


class Channel:
    """A bounded queue that the receiver can close."""

    def __init__(self, limit):
        self._items = deque()
        self._limit = limit
        self._closed = False
        # Reentrant: an iterator's finaliser may run in a thread that stands in `put`.
        self._changed = threading.Condition(threading.RLock())

    def put(self, item):
        """Append an item when there is room; return False if the channel is closed."""
        with self._changed:
            while len(self._items) >= self._limit and not self._closed:
                self._changed.wait()
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()
            return not self._closed

    def get(self):
        """Take the first item when there is one."""
        with self._changed:
            while not self._items:
                self._changed.wait()
            self._changed.notify_all()
            return self._items.popleft()

    def close(self):
        """Let go of what waits, and of who waits."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


class _End:
    """Stands for the end of a lane."""


class _Failure:
    """Carries an exception from a reader to the consumer."""

    def __init__(self, error):
        self.error = error


def _rounds(lanes, interleave, take):
    """Yield what `take(lane)` gives: a block of each lane in turn, or lane after lane."""
    waiting = deque(lanes)
    while waiting:
        lane = waiting.popleft()
        item = take(lane)
        if item is not _End:
            (waiting.append if interleave else waiting.appendleft)(lane)
        yield item


def _serve(channel, lanes, interleave):
    """Read lanes into a channel until they end or it is closed: the body of a reader."""
    try:
        for item in _rounds(lanes, interleave, lambda lane: next(lane, _End)):
            if not channel.put(item):
                break
    except BaseException as error:  # whatever it is, the consumer is told
        channel.put(_Failure(error))
    finally:
        for lane in lanes:
            lane.close()


def read_lanes(lanes, n_readers, ahead, *, interleave):
    """Read lanes of blocks by several threads and yield the blocks in a fixed order.

    Reader r serves the lanes r, r + n_readers, ... in just the order in which the consumer asks
    for them, so each needs one queue, none waits for another, and timing cannot change the order.

    Parameters
    ----------
    lanes : list of generators
        Each yields blocks.
    n_readers : int
        Number of threads.
    ahead : int
        Blocks of each open lane that may wait to be taken.
    interleave : bool
        Whether to take a block of each lane in turn; otherwise a lane begins where the one before
        it ends.

    Yields
    ------
    item
        What the lanes yield. An exception raised by a lane is raised here, in its place.
    """
    n = min(n_readers, len(lanes))
    shares = [lanes[r::n] for r in range(n)]
    # A reader holds one more block in its hands.
    channels = [Channel(max(1, ahead * (len(s) if interleave else 1) - 1)) for s in shares]
    threads = [
        threading.Thread(
            target=_serve, args=(c, s, interleave), daemon=True, name=f"skdeep-reader-{r}"
        )
        for r, (c, s) in enumerate(zip(channels, shares, strict=True))
    ]
    try:
        for thread in threads:
            thread.start()
        for item in _rounds(range(len(lanes)), interleave, lambda i: channels[i % n].get()):
            if isinstance(item, _Failure):
                raise item.error
            if item is not _End:
                yield item
    finally:
        for channel in channels:
            channel.close()
        for thread in threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(PATIENCE)
