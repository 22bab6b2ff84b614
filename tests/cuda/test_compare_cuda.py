"""The benchmark of a GPU, rehearsed without one."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[2] / "asv_bench"
SCRIPT = BENCHMARKS / "compare_cuda.py"


def run(*arguments, **environment):
    """Run the benchmark's script."""
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def report(monkeypatch):
    """The module that makes rows."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from gpu import report

    return report


def test_rehearsal_of_every_section(tmp_path):
    pytest.importorskip("greenlet")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- cuda: begin -->\nold\n<!-- cuda: end -->\nafter\n")
    done = run("--rehearse", "--write", page, NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    text = page.read_text()
    assert text.startswith("before\n<!-- cuda: begin -->")
    assert text.endswith("<!-- cuda: end -->\nafter\n")
    assert "old" not in text
    assert "these are no measurements" in text
    assert "failed" not in text
    assert "no time left" not in text
    tables = text.count("| --- | --- | --- | --- | --- | --- |")
    assert tables == 8
    # Nothing is rehearsed in which the numbers themselves are wrong.
    assert text.count("| equal bit for bit |") == 2
    assert text.count("| 0.0001 at most | met |") == 2


def test_a_section_in_a_process_of_its_own(tmp_path, report):
    pytest.importorskip("greenlet")
    rows = tmp_path / "rows"
    arguments = "--rehearse", "--section", "compilation", "--rows", str(rows)
    done = run(*arguments, NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 0, done.stderr
    assert report.read(rows) == [report.Row("kernels", "none: they run in Python")]


def test_without_a_gpu_it_says_so_and_measures_nothing():
    # No GPU is visible, wherever this runs.
    done = run(CUDA_VISIBLE_DEVICES="", NUMBA_ENABLE_CUDASIM="0")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("nothing can be measured: ")


@pytest.mark.parametrize(
    ("arguments", "simulated", "said"),
    [
        (["--rehearse"], "0", "a rehearsal needs NUMBA_ENABLE_CUDASIM=1"),
        ([], "1", "with NUMBA_ENABLE_CUDASIM=1 there is only --rehearse"),
    ],
)
def test_a_rehearsal_is_no_measurement(arguments, simulated, said):
    done = run(*arguments, NUMBA_ENABLE_CUDASIM=simulated)
    assert done.returncode == 1
    assert said in done.stderr


def test_the_page_has_room_for_the_tables():
    page = (BENCHMARKS.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert page.count("<!-- cuda: begin -->") == page.count("<!-- cuda: end -->") == 1


# ---- rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "more", "met"), [(0.85, True, "met"), (0.84, True, "not met"), (2, False, "not met")]
)
def test_bars(report, ratio, more, met):
    row = report.compared("case", "1 ms", "2 ms", ratio, 0.85, more)
    assert (row.ratio, row.bar, row.met) == (f"{ratio:.2f}", "0.85", met)


def test_without_a_peer_nothing_is_met(report):
    assert report.compared("case", "1 ms", "-", None, 0.8) == report.Row("case", "1 ms", bar="0.8")


def test_what_fails_or_is_late_says_so(tmp_path, report, capsys):
    known = report.Report(60, tmp_path / "rows")

    def fails():
        raise ValueError("a | b\nc")

    def takes_too_long():
        raise TimeoutError

    known.case("first", lambda: report.Row("first", "1"))
    known.case("second", fails)
    known.case("third", lambda: [report.Row("3a"), report.Row("3b")])
    known.case("fourth", takes_too_long)
    known.deadline = time.monotonic()
    known.case("fifth", fails)
    assert known.failed
    assert known.rows == report.read(tmp_path / "rows")
    assert [row.case for row in known.rows] == ["first", "second", "3a", "3b", "fourth", "fifth"]
    assert known.rows[1].met == "failed: ValueError: a / b c"
    assert known.rows[4].met == known.rows[5].met == "no time left"
    assert "ValueError" in capsys.readouterr().err
    assert report.read(tmp_path / "none") == []


def test_a_table(report):
    lines = report.table("title", "cuBLAS", [report.compared("case", "2", "4", 0.5, 0.8)])
    assert lines == [
        "| title | skdeep | cuBLAS | ratio | bar |  |",
        "| --- | --- | --- | --- | --- | --- |",
        "| case | 2 | 4 | 0.50 | 0.8 | not met |",
    ]


# ---- a section's process ----------------------------------------------------------------------

_ENDINGS = {
    "hangs": ("import time; time.sleep(60)", "stopped: it took too long"),
    "dies": ("import os; os._exit(7)", "failed: the process ended with status 7"),
}


@pytest.mark.parametrize("ending", _ENDINGS)
def test_a_section_that_hangs_or_dies_leaves_its_rows(tmp_path, monkeypatch, report, ending):
    from gpu import sections

    code, said = _ENDINGS[ending]
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "from gpu.report import Report, Row\n"
        "Report(9, sys.argv[sys.argv.index('--rows') + 1]).add(Row('first', '1'))\n"
        f"{code}\n"
    )
    monkeypatch.setattr(sections, "GRACE", 0)
    options = SimpleNamespace(script=script, rehearse=False, rounds=1)
    rows, fine = sections.measured_apart("memory", 3, options)
    assert not fine
    assert rows == [report.Row("first", "1"), report.Row("the rest", met=said)]
