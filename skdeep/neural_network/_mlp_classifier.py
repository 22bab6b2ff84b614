"""The multi-layer perceptron classifier."""

from skdeep.neural_network._classifier import ClassifierNetwork
from skdeep.neural_network._docs import document
from skdeep.neural_network._mlp import BaseMLP


@document
class MLPClassifier(ClassifierNetwork, BaseMLP):
    """Multi-layer perceptron classifier.

    {summary}

    Parameters
    ----------
    {parameters}
    loss : {{"log_loss", "hinge", "squared_hinge", "perceptron"}} or callable, default="log_loss"
        The loss. Hinge losses and the perceptron's take the classes one against the rest; with
        ``hidden_layer_sizes=()`` they make a max-margin classifier and Rosenblatt's perceptron,
        and the log-loss makes logistic regression. A callable ``f(y_true, y_pred)`` of the
        encoded targets and the raw outputs, of shape (n_samples, n_outputs) each, returns the
        samples' losses in differentiable NumPy.
    label_smoothing : float, default=0.0
        The share of each label's weight that is spread evenly over the classes.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied into the sample weights.
    {parameters_end}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    {attributes}

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from skdeep.neural_network import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    >>> mlp = MLPClassifier(max_iter=60, tol=1e-2, random_state=0).fit(X_train, y_train)
    >>> bool(mlp.score(X_test, y_test) > 0.95)
    True
    """

    _parameter_constraints = {
        **BaseMLP._parameter_constraints,
        **ClassifierNetwork._parameter_constraints,
    }

    def __init__(
        self,
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
        loss="log_loss",
        label_smoothing=0.0,
        class_weight=None,
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
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
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
