"""Convolutional networks for images."""

import math

from skdeep.layers import architectures
from skdeep.neural_network._classifier import ClassifierNetwork
from skdeep.neural_network._docs import document
from skdeep.neural_network._layered import LayeredNetwork
from skdeep.neural_network._regressor import RegressorNetwork

#: Features up to which rows that are no squares are taken for a row of pixels.
_LONGEST_ROW = 64


class BaseCNN(LayeredNetwork):
    """Abstract base: images in, layers or an architecture by name."""

    _parameter_constraints = {
        **LayeredNetwork._parameter_constraints,
        "architecture": [str, callable, None],
        "image_shape": [tuple, list, None],
    }
    _shape_parameter = "image_shape"

    def _shape_of(self, given):
        if self.image_shape is not None or len(given) > 2:
            return super()._shape_of(given)
        if len(given) == 2:
            return (*given, 1)
        (n_features,), side = given, math.isqrt(given[0])
        if side * side == n_features:
            return side, side, 1
        if n_features > _LONGEST_ROW:
            raise ValueError(
                f"X has rows of {n_features} features, which make no square; give image_shape="
                "(height, width, channels)"
            )
        return 1, n_features, 1

    def _given_layers(self, n_outputs, sample_shape):
        if self.layers is not None and self.architecture is not None:
            raise ValueError("layers and architecture are both given; give one of them")
        if self.layers is not None:
            return super()._given_layers(n_outputs, sample_shape)
        make = self.architecture or "small_cnn"
        if isinstance(make, str):
            names = sorted(n for n in architectures.__all__ if n.islower())
            if make not in names:
                raise ValueError(f"architecture={make!r} must be one of {names}, or a function")
            make = getattr(architectures, make)
        layers = make(sample_shape, n_outputs)
        if not isinstance(layers, list | tuple):
            raise ValueError(
                f"architecture={self.architecture!r} returned {layers!r}; it must be a list of "
                "(name, layer) or (name, layer, inputs)"
            )
        return list(layers)


@document
class CNNClassifier(ClassifierNetwork, BaseCNN):
    """Convolutional network for the classification of images.

    Training computes in float32 unless `dtype` says otherwise; one step is recorded once as a list
    of compiled kernels and replayed without Python.

    Parameters
    ----------
    layers : list of (str, Layer) or (str, Layer, str or list of str), default=None
        The layers, in the order of computation or, where entries name the layers that they read,
        as a graph. An output layer is added unless the last is called "output". A layer's
        parameters are searched and set by its name: ``conv1__filters``.
    architecture : str or callable, default=None
        The name of an architecture of `skdeep.layers.architectures`, or any function
        ``f(input_shape, n_classes)`` that gives layers. Without `layers` and `architecture`, it
        is "small_cnn".
    image_shape : tuple of int, default=None
        Height, width and channels of an image where X has flattened rows; one may be -1. By
        default the shape is that of X of shape (n_samples, height, width[, channels]); rows are
        gray squares, or up to 64 features that make no square a single row of pixels.
    loss : {{"log_loss", "hinge", "squared_hinge", "perceptron"}} or callable, default="log_loss"
        The loss, as in `MLPClassifier`.
    {layered_parameters}
    label_smoothing : float, default=0.0
        The share of each label's weight that is spread evenly over the classes.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied into the sample weights.
    {layered_end}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    {layered_attributes}

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from skdeep.layers import Conv2D, Dense, Flatten, MaxPool2D
    >>> from skdeep.neural_network import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    >>> cnn = CNNClassifier(
    ...     layers=[
    ...         ("conv1", Conv2D(16, 3, padding="same", activation="relu")),
    ...         ("pool1", MaxPool2D(2)),
    ...         ("flat", Flatten()),
    ...         ("fc1", Dense(64, activation="relu")),
    ...     ],
    ...     image_shape=(8, 8, 1),
    ...     random_state=0,
    ... )
    >>> bool(cnn.fit(X_train, y_train).score(X_test, y_test) > 0.95)
    True
    """

    _parameter_constraints = {
        **BaseCNN._parameter_constraints,
        **ClassifierNetwork._parameter_constraints,
    }

    def __init__(
        self,
        layers=None,
        *,
        architecture=None,
        image_shape=None,
        loss="log_loss",
        solver="adam",
        alpha=0.0,
        batch_size="auto",
        learning_rate_init=0.001,
        max_iter=20,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        label_smoothing=0.0,
        class_weight=None,
        optimizer=None,
        schedule=None,
        augmentation=None,
        l1=0.0,
        max_norm=None,
        clip_value=None,
        clip_norm=None,
        clip_global_norm=None,
        accumulate_steps=1,
        checkpoint_activations=False,
        activation_storage=None,
        checkpoint=None,
        n_jobs=None,
        dtype="float32",
        device="cpu",
        precision="float32",
    ):
        self.layers = layers
        self.architecture = architecture
        self.image_shape = image_shape
        self.loss = loss
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.schedule = schedule
        self.augmentation = augmentation
        self.l1 = l1
        self.max_norm = max_norm
        self.clip_value = clip_value
        self.clip_norm = clip_norm
        self.clip_global_norm = clip_global_norm
        self.accumulate_steps = accumulate_steps
        self.checkpoint_activations = checkpoint_activations
        self.activation_storage = activation_storage
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.dtype = dtype
        self.device = device
        self.precision = precision


@document
class CNNRegressor(RegressorNetwork, BaseCNN):
    """Convolutional network for regression on images.

    Training computes in float32 unless `dtype` says otherwise; one step is recorded once as a list
    of compiled kernels and replayed without Python.

    Parameters
    ----------
    layers : list of (str, Layer) or (str, Layer, str or list of str), default=None
        The layers, in the order of computation or, where entries name the layers that they read,
        as a graph. An output layer is added unless the last is called "output". A layer's
        parameters are searched and set by its name: ``conv1__filters``.
    architecture : str or callable, default=None
        The name of an architecture of `skdeep.layers.architectures`, or any function
        ``f(input_shape, n_classes)`` that gives layers. Without `layers` and `architecture`, it
        is "small_cnn".
    image_shape : tuple of int, default=None
        Height, width and channels of an image where X has flattened rows; one may be -1. By
        default the shape is that of X of shape (n_samples, height, width[, channels]); rows are
        gray squares, or up to 64 features that make no square a single row of pixels.
    loss : {{"squared_error", "poisson", "absolute_error", "huber", "quantile"}} or callable, \
default="squared_error"
        The loss, as in `MLPRegressor`.
    {layered_parameters}
    delta : float, default=1.0
        Where the Huber loss turns from squared to absolute.
    quantile : float, default=0.5
        The quantile that ``loss="quantile"`` estimates.
    {layered_end}

    Attributes
    ----------
    {layered_attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.neural_network import CNNRegressor
    >>> X = np.random.default_rng(0).uniform(size=(200, 8, 8, 1))
    >>> y = X[:, 2:5, 2:5].mean(axis=(1, 2, 3))
    >>> cnn = CNNRegressor(max_iter=60, learning_rate_init=0.003, random_state=0).fit(X, y)
    >>> bool(cnn.score(X, y) > 0.8)
    True
    """

    _parameter_constraints = {
        **BaseCNN._parameter_constraints,
        **RegressorNetwork._parameter_constraints,
    }

    def __init__(
        self,
        layers=None,
        *,
        architecture=None,
        image_shape=None,
        loss="squared_error",
        solver="adam",
        alpha=0.0,
        batch_size="auto",
        learning_rate_init=0.001,
        max_iter=20,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        delta=1.0,
        quantile=0.5,
        optimizer=None,
        schedule=None,
        augmentation=None,
        l1=0.0,
        max_norm=None,
        clip_value=None,
        clip_norm=None,
        clip_global_norm=None,
        accumulate_steps=1,
        checkpoint_activations=False,
        activation_storage=None,
        checkpoint=None,
        n_jobs=None,
        dtype="float32",
        device="cpu",
        precision="float32",
    ):
        self.layers = layers
        self.architecture = architecture
        self.image_shape = image_shape
        self.loss = loss
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.delta = delta
        self.quantile = quantile
        self.optimizer = optimizer
        self.schedule = schedule
        self.augmentation = augmentation
        self.l1 = l1
        self.max_norm = max_norm
        self.clip_value = clip_value
        self.clip_norm = clip_norm
        self.clip_global_norm = clip_global_norm
        self.accumulate_steps = accumulate_steps
        self.checkpoint_activations = checkpoint_activations
        self.activation_storage = activation_storage
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.dtype = dtype
        self.device = device
        self.precision = precision
