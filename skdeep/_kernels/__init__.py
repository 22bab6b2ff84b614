"""Leaf kernels over raw arrays. They know nothing of autodiff or scikit-learn."""
