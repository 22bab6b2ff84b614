"""Networks of any layers, as a stack or a graph."""

from skdeep.neural_network._classifier import ClassifierNetwork
from skdeep.neural_network._docs import document
from skdeep.neural_network._layered import LayeredNetwork
from skdeep.neural_network._regressor import RegressorNetwork


class BaseLayers(LayeredNetwork):
    """Abstract base: samples of any shape, layers of any kind."""

    _parameter_constraints = {
        **LayeredNetwork._parameter_constraints,
        "input_shape": [tuple, list, None],
    }
    _shape_parameter = "input_shape"


@document
class NetworkClassifier(ClassifierNetwork, BaseLayers):
    """Classifier made of any layers.

    Training computes in float32 unless `dtype` says otherwise; one step is recorded once as a list
    of compiled kernels and replayed without Python.

    Parameters
    ----------
    layers : list of (str, Layer) or (str, Layer, str or list of str), default=None
        The layers, in the order of computation or, where entries name the layers that they read,
        as a graph. An output layer is added unless the last is called "output"; None is a linear
        model. A layer's parameters are searched and set by its name: ``hidden__units``.
    input_shape : tuple of int, default=None
        The shape of a sample for the first layer where X has flattened rows; one side may be -1.
        By default that of X.
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
    >>> from sklearn.datasets import load_iris
    >>> from skdeep.layers import Add, Dense
    >>> from skdeep.neural_network import NetworkClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NetworkClassifier(
    ...     layers=[
    ...         ("first", Dense(16, activation="tanh")),
    ...         ("second", Dense(16, activation="tanh")),
    ...         ("sum", Add(), ["first", "second"]),
    ...     ],
    ...     max_iter=100,
    ...     learning_rate_init=0.01,
    ...     random_state=0,
    ... )
    >>> bool(net.fit(X, y).score(X, y) > 0.95)
    True
    """

    _parameter_constraints = {
        **BaseLayers._parameter_constraints,
        **ClassifierNetwork._parameter_constraints,
    }

    def __init__(
        self,
        layers=None,
        *,
        input_shape=None,
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
        self.input_shape = input_shape
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
class NetworkRegressor(RegressorNetwork, BaseLayers):
    """Regressor made of any layers.

    Training computes in float32 unless `dtype` says otherwise; one step is recorded once as a list
    of compiled kernels and replayed without Python.

    Parameters
    ----------
    layers : list of (str, Layer) or (str, Layer, str or list of str), default=None
        The layers, in the order of computation or, where entries name the layers that they read,
        as a graph. An output layer is added unless the last is called "output"; None is a linear
        model. A layer's parameters are searched and set by its name: ``hidden__units``.
    input_shape : tuple of int, default=None
        The shape of a sample for the first layer where X has flattened rows; one side may be -1.
        By default that of X.
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
    >>> from skdeep.layers import Dense
    >>> from skdeep.neural_network import NetworkRegressor
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = X[:, 0] ** 2
    >>> net = NetworkRegressor(
    ...     [("hidden", Dense(50, activation="relu"))],
    ...     max_iter=200,
    ...     learning_rate_init=0.01,
    ...     random_state=0,
    ... )
    >>> bool(net.fit(X, y).score(X, y) > 0.95)
    True
    """

    _parameter_constraints = {
        **BaseLayers._parameter_constraints,
        **RegressorNetwork._parameter_constraints,
    }

    def __init__(
        self,
        layers=None,
        *,
        input_shape=None,
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
        self.input_shape = input_shape
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
