"""The steps that are made on a machine with a GPU, without making them."""

import importlib
import sys

import pytest

from tests.cuda import on_device


@pytest.fixture
def with_gpu(monkeypatch):
    """A machine that has a GPU and a sanitizer, as far as the steps can see."""
    monkeypatch.setattr("skdeep._kernels.cuda.devices.explain", lambda: "")
    monkeypatch.setattr(on_device, "sanitizer", lambda: "compute-sanitizer")


def test_selected_tests_exist():
    for test in on_device.selected():
        file, name = test.split("::")
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        assert callable(getattr(module, name)), test


def test_the_steps_take_ten_minutes_together():
    assert sum(on_device.STEPS.values()) <= 600


@pytest.mark.parametrize("step", ["memcheck", "racecheck"])
def test_sanitizer_runs_the_selection(with_gpu, step):
    words = on_device.command(step)
    assert words[:3] == ["compute-sanitizer", "--tool", step]
    assert words[words.index("pytest") :][-1] == on_device.selected()[-1]


def test_without_a_gpu_nothing_is_made(monkeypatch, capsys):
    monkeypatch.setattr("skdeep._kernels.cuda.devices.explain", lambda: "there is no GPU")
    assert on_device.main(["tests", "memcheck"]) == 1
    out = capsys.readouterr().out
    assert out.count("not made: there is no GPU") == 2


def test_without_the_sanitizer_the_others_are_made(with_gpu, monkeypatch, capsys):
    monkeypatch.setattr(on_device, "sanitizer", lambda: None)
    monkeypatch.setattr(on_device, "command", lambda step: [sys.executable, "-c", ""])
    assert on_device.main(["tests", "racecheck"]) == 1
    out = capsys.readouterr().out
    assert "tests: fine" in out
    assert "racecheck: not made: compute-sanitizer, of CUDA's toolkit, is not on the path" in out


@pytest.mark.parametrize(
    ("code", "came"),
    [
        ("", ""),
        ("exit(3)", "failed with status 3"),
        ("exit(66)", "the sanitizer found errors: see above"),
        ("import time; time.sleep(60)", "stopped after 1 s"),
    ],
)
def test_what_came_of_a_step(with_gpu, monkeypatch, code, came):
    monkeypatch.setattr(on_device, "command", lambda step: [sys.executable, "-c", code])
    monkeypatch.setitem(on_device.STEPS, "tests", 1)
    assert on_device.run("tests") == came


def test_unknown_steps_are_named(capsys):
    with pytest.raises(SystemExit):
        on_device.main(["race"])
    assert "no such steps: race; there are compile, tests, memcheck" in capsys.readouterr().err
