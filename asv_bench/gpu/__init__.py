"""The parts of ``compare_cuda.py``: skdeep and its peers on one GPU."""
