"""Every example of the gallery runs, without a warning, and ends with a picture."""

import ast
import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
#: Those that take more than a few seconds on one core.
SLOW = {
    "cifar10_resnet",
    "demo_digits_mlp",
    "mnist_accuracy",
    "mnist_cnn_accuracy",
    "plot_activations_and_initializers",
    "plot_deep_dream",
    "plot_mlp_vs_sklearn",
    "plot_optimizers_and_schedules",
    "plot_regularization",
    "plot_stream",
}
SCRIPTS = sorted(EXAMPLES.glob("*/*.py"))


RUNS = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else [])
    for path in SCRIPTS
]


def test_examples_are_found():
    stems = {path.stem for path in SCRIPTS}
    assert stems >= SLOW
    assert len(stems - SLOW) >= 3
    assert all((path.parent / "GALLERY_HEADER.rst").is_file() for path in SCRIPTS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_example_asks_a_question_and_is_short(path):
    text = path.read_text(encoding="utf-8")
    lines = ast.get_docstring(ast.parse(text)).splitlines()
    assert set(lines[0]) == set(lines[2]) == {"="}
    assert len(lines[0]) == len(lines[2]) >= len(lines[1])
    assert "?" in lines[1]
    assert len(text.splitlines()) <= (90 if path.stem.startswith("plot") else 100)
    assert "# %%" in text


def test_readme_lists_the_examples_with_their_questions():
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+/\w+\.py)` \| (.+?) \|$", readme, re.MULTILINE))
    questions = {
        path.relative_to(EXAMPLES).as_posix(): ast.get_docstring(
            ast.parse(path.read_text(encoding="utf-8"))
        ).splitlines()[1]
        for path in SCRIPTS
    }
    assert listed == questions


# Figures go to files here, and a short training may end without convergence.
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("path", RUNS)
def test_example_runs(path, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    plt.close("all")
    try:
        runpy.run_path(str(path), run_name="__main__")
        assert plt.get_fignums()
        for number in plt.get_fignums():
            figure = plt.figure(number)
            assert all(ax.has_data() or ax.texts for ax in figure.axes)
            figure.savefig(tmp_path / f"{number}.png")
    finally:
        plt.close("all")
