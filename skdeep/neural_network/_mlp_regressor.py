"""The multi-layer perceptron regressor."""

from skdeep.neural_network._docs import document
from skdeep.neural_network._mlp import BaseMLP
from skdeep.neural_network._regressor import RegressorNetwork


@document
class MLPRegressor(RegressorNetwork, BaseMLP):
    """Multi-layer perceptron regressor.

    {summary}

    Parameters
    ----------
    loss : {{"squared_error", "poisson", "absolute_error", "huber", "quantile"}} or callable, \
default="squared_error"
        The loss, summed over the outputs. "poisson" is half the Poisson deviance, with the
        exponential of the raw output as the prediction. A callable ``f(y_true, y_pred)`` of
        targets and raw outputs, of shape (n_samples, n_outputs) each, returns the samples'
        losses in differentiable NumPy.
    {parameters}
    delta : float, default=1.0
        Where the Huber loss turns from squared to absolute.
    quantile : float, default=0.5
        The quantile that ``loss="quantile"`` estimates.
    {parameters_end}

    Attributes
    ----------
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.neural_network import MLPRegressor
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> y = x[:, 0] ** 2
    >>> mlp = MLPRegressor(hidden_layer_sizes=(50,), solver="lbfgs", random_state=0).fit(x, y)
    >>> bool(mlp.score(x, y) > 0.99)
    True
    """

    _parameter_constraints = {
        **BaseMLP._parameter_constraints,
        **RegressorNetwork._parameter_constraints,
    }

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        delta=1.0,
        quantile=0.5,
        optimizer=None,
        schedule=None,
        initializer="auto",
        dropout=0.0,
        input_dropout=0.0,
        dropconnect=0.0,
        input_noise=0.0,
        batch_norm=False,
        layer_norm=False,
        l1=0.0,
        max_norm=None,
        clip_value=None,
        clip_norm=None,
        clip_global_norm=None,
        checkpoint=None,
        dtype="float32",
        device="cpu",
        precision="float32",
    ):
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.delta = delta
        self.quantile = quantile
        self.optimizer = optimizer
        self.schedule = schedule
        self.initializer = initializer
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.dropconnect = dropconnect
        self.input_noise = input_noise
        self.batch_norm = batch_norm
        self.layer_norm = layer_norm
        self.l1 = l1
        self.max_norm = max_norm
        self.clip_value = clip_value
        self.clip_norm = clip_norm
        self.clip_global_norm = clip_global_norm
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.device = device
        self.precision = precision
