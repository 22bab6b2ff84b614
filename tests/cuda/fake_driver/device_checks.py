"""Why there is no usable GPU, on the stand-in for CUDA's driver."""

import pytest

from skdeep._kernels.cuda import _library, devices


@pytest.fixture
def unstarted(gpu):
    """CUDA as if this process had not asked for it yet."""
    _library._started.cache_clear()
    yield
    _library._started.cache_clear()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("DRIVER_VERSION", "12040", "supports CUDA 12.4 at most.*for CUDA 13.0: update"),
        ("DEVICES", "0", "the NVIDIA driver sees no GPU: look at 'nvidia-smi'"),
        ("INIT", "3", "cuInit failed: CUDA_ERROR_NOT_INITIALIZED.*if the process was forked"),
        ("INIT", "802", "cuInit failed: error 802 .unknown."),
        ("CAPABILITY", "75", "the newest GPU here has compute capability 7.5, but skdeep needs"),
    ],
)
def test_reasons(unstarted, monkeypatch, setting, value, message):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv(f"FAKE_CUDA_{setting}", value)
    assert devices.count() == 0
    with pytest.raises(
        RuntimeError, match=f"^device='cuda' is not available, because .*{message}"
    ):
        devices.parse("cuda")


def test_hidden_devices_are_said(unstarted, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.explain().endswith("CUDA_VISIBLE_DEVICES='' may hide it")


def test_several_devices(gpu, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "3")
    assert devices.count() == 3
    assert devices.parse("cuda:2") == 2
    with pytest.raises(RuntimeError, match="3 GPU.*'cuda:0' to 'cuda:2'"):
        devices.parse("cuda:3")
