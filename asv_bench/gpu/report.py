"""What a section of the benchmark says: rows, each written down as soon as it is known."""

import json
import time
import traceback
from dataclasses import asdict, dataclass

#: What a row says that was not measured in time.
LATE = "no time left"


@dataclass
class Row:
    """A line of a table.

    Parameters
    ----------
    case : str
        What was measured.
    ours, peer, ratio : str
        The measurements, with their units.
    bar : str
        What the ratio should be.
    met : {"met", "not met", "-"} or str
        Whether it is; why there is no measurement.
    """

    case: str
    ours: str = "-"
    peer: str = "-"
    ratio: str = "-"
    bar: str = "-"
    met: str = "-"


def compared(case, ours, peer, ratio, bar=None, more=True):
    """Return the row of a ratio that should be at least `bar`.

    Parameters
    ----------
    case, ours, peer : str
        What was measured, and the two measurements.
    ratio : float or None
        Above 1, skdeep is faster; None without a peer.
    bar : float, optional
        What the ratio should be at least.
    more : bool, default=True
        What must hold besides.
    """
    if ratio is None:
        return Row(case, ours, peer, bar="-" if bar is None else f"{bar:g}")
    row = Row(case, ours, peer, f"{ratio:.2f}")
    if bar is not None:
        row.bar, row.met = f"{bar:g}", "met" if more and ratio >= bar else "not met"
    return row


class Report:
    """The rows of a section, and the time that is left for more.

    Parameters
    ----------
    seconds : float
        How long the section may take.
    file : path-like, optional
        Where each row is added at once, as a line of JSON.
    """

    def __init__(self, seconds, file=None):
        self.deadline, self.file = time.monotonic() + seconds, file
        self.rows, self.failed = [], False

    @property
    def left(self):
        """The seconds that are left."""
        return self.deadline - time.monotonic()

    def case(self, name, measure):
        """Add the rows that ``measure()`` returns, a row or a list of rows.

        Where no time is left (a `TimeoutError` says so, too), or where it fails, the row says so:
        the others are still measured.
        """
        start = time.monotonic()
        if self.left <= 0:
            self.add(Row(name, met=LATE))
            return
        try:
            rows = measure()
        except TimeoutError:
            rows = Row(name, met=LATE)
        except Exception as e:
            traceback.print_exc()
            self.failed = True
            rows = Row(name, met=f"failed: {_one_line(e)}")
        for row in [rows] if isinstance(rows, Row) else rows:
            self.add(row, time.monotonic() - start)

    def add(self, row, seconds=0.0):
        """Add a row."""
        self.rows.append(row)
        values = " | ".join(asdict(row).values())
        print(f"{values}   [{seconds:.1f} s, {max(self.left, 0):.0f} s left]", flush=True)
        if self.file:
            with open(self.file, "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")


def _one_line(error):
    text = " ".join(f"{type(error).__name__}: {error}".split()).replace("|", "/")
    return text if len(text) <= 160 else text[:159] + "…"


def read(file):
    """Return the rows that a report has written so far."""
    try:
        with open(file, encoding="utf-8") as lines:
            return [Row(**json.loads(line)) for line in lines]
    except FileNotFoundError:
        return []


def table(title, peer, rows):
    """Return the lines of a table in Markdown."""
    head = [title, "skdeep", peer, "ratio", "bar", ""]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(asdict(row).values()) + " |" for row in rows]
