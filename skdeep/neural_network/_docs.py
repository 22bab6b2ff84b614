"""The documentation that classifier and regressor share, said once."""

import re
import textwrap

_SUMMARY = """
A superset of scikit-learn's estimator of the same name: its parameters, defaults, attributes and
methods, and after them ours, keyword-only. Training computes in float32 unless `dtype` says
otherwise; one step is recorded once as a list of compiled kernels and replayed without Python.
"""

_PARAMETERS = """
hidden_layer_sizes : array-like of int or int, default=(100,)
    The units of each hidden layer; ``()`` makes a linear model.
activation : str, callable or Layer, default="relu"
    The hidden layers' activation: "identity", "logistic", "tanh", "relu", "leaky_relu", "prelu",
    "rrelu", "elu", "selu", "gelu", "silu", "softplus", "softmax", "step", any function of a
    traced array in plain NumPy, or an activation layer.
solver : {"adam", "sgd", "lbfgs", "adamw", "adagrad", "rmsprop", "ftrl"}, default="adam"
    The optimiser by name. "lbfgs" minimises over all samples at once, in float64; the others take
    minibatches. "ftrl" with `l1` in ``optimizer=FTRL(...)`` gives truly sparse weights.
alpha : float, default=0.0001
    Strength of the l2 penalty on the weights, divided by the batch's sample weight.
batch_size : int or "auto", default="auto"
    Samples per step; "auto" is ``min(200, n_samples)``.
learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
    How the rate changes, with ``solver="sgd"``: not at all; as
    ``learning_rate_init / samples_seen ** power_t``; or divided by 5 whenever training stalls.
learning_rate_init : float, default=0.001
    The initial learning rate.
power_t : float, default=0.5
    The exponent of "invscaling".
max_iter : int, default=200
    Epochs at most (iterations for "lbfgs").
shuffle : bool, default=True
    Whether every epoch has an order of its own.
random_state : int, RandomState instance or None, default=None
    Seeds the initial weights, the validation split, the orders and all draws. The draws are a
    function of this seed, the epoch, the step and the element, so a resumed training repeats them.
tol : float, default=1e-4
    What counts as an improvement of the loss (or of the validation score).
verbose : bool, default=False
    Whether to print the loss of every epoch.
warm_start : bool, default=False
    Whether `fit` goes on from the weights of the last call.
momentum : float, default=0.9
    The momentum of ``solver="sgd"``.
nesterovs_momentum : bool, default=True
    Whether that momentum is Nesterov's.
early_stopping : bool, default=False
    Whether to stop when the score of a validation set stalls, and to restore the best weights.
validation_fraction : float, default=0.1
    The part of the samples that is held out for early stopping (stratified by class) where no
    `X_val` is given.
beta_1, beta_2 : float, default=0.9 and 0.999
    Decay rates of Adam's first and second moment.
epsilon : float, default=1e-8
    Adam's guard against division by zero.
n_iter_no_change : int, default=10
    Stop after more than so many epochs in a row without improvement.
max_fun : int, default=15000
    Evaluations at most, for "lbfgs".
"""

_PARAMETERS_END = """
optimizer : Optimizer, default=None
    An optimiser of `skdeep.training`, instead of `solver` and its parameters; its own
    `learning_rate` counts.
schedule : Schedule, default=None
    A learning-rate schedule of `skdeep.training`, instead of `learning_rate`.
initializer : str or callable, default="auto"
    How weights begin: "auto" (scikit-learn's own), "glorot_uniform", "he_normal", "lecun_normal",
    "orthogonal" and so on, or an initialiser; the biases then begin at zero.
dropout : float or array-like of float, default=0.0
    The dropout rate after each hidden layer.
input_dropout : float, default=0.0
    The dropout rate of the inputs.
dropconnect : float, default=0.0
    The rate at which hidden layers' weights are dropped.
input_noise : float, default=0.0
    Standard deviation of normal noise added to the inputs in training.
batch_norm : bool or {"before", "after"}, default=False
    Batch normalisation of each hidden layer, before (True) or after its activation.
layer_norm : bool, default=False
    Layer normalisation of each hidden layer, before its activation.
l1 : float, default=0.0
    Strength of an l1 penalty on the weights, divided like `alpha`.
max_norm : float, default=None
    The largest norm of a unit's incoming weights; larger ones are scaled down after each step.
clip_value, clip_norm, clip_global_norm : float, default=None
    Limits of the gradient: of each element, of each array's norm, of the norm of all together.
checkpoint : str or Checkpoint, default=None
    A file to save the training to after every epoch (or at intervals), and to resume it from, bit
    for bit.
dtype : {"float32", "float64"}, default="float32"
    What the network computes in, whatever the dtype of X.
device : {"cpu", "auto", "cuda"} or str, default="cpu"
    Where to train and predict: "cuda" is the first NVIDIA GPU, "cuda:1" the second; "auto" takes a
    GPU where the training is long enough to pay for it. `device_` says what was used. A fitted
    model is NumPy arrays whatever the device, and predicts on the CPU where its GPU is missing.
precision : {"float32", "tf32", "bfloat16"}, default="float32"
    What products and convolutions may be multiplied in on a GPU, by its tensor cores: factors are
    rounded to 10 or 7 fractional bits, sums are in float32. On the CPU all is float32.
"""

_ATTRIBUTES = """
coefs_, intercepts_ : list of ndarray
    The weights of shape (fan_in, units) and biases of shape (units,) of each dense layer: views of
    the network's buffer.
network_ : Network
    The stack with all its arrays.
loss_ : float
    The last epoch's loss, penalty included.
loss_curve_ : list of float
    The loss of every epoch (iteration for "lbfgs").
best_loss_ : float or None
    The lowest loss; None with early stopping.
validation_scores_ : list of float or None
    The validation score (accuracy or R^2) of every epoch, where there is a validation set.
best_validation_score_ : float or None
    The highest of them.
n_iter_ : int
    Epochs (iterations) of the last fit.
t_ : int
    Samples seen.
n_layers_ : int
    The number of layers, the input included.
n_outputs_ : int
    The number of outputs.
out_activation_ : str
    What turns raw outputs into predictions.
n_features_in_ : int
    The number of features.
feature_names_in_ : ndarray of shape (`n_features_in_`,)
    Their names, where X has names that are all strings.
device_ : str
    Where it was trained.
"""

_LAYERED_PARAMETERS = """
solver : {"adam", "adamw", "sgd", "rmsprop", "adagrad", "ftrl"}, default="adam"
    The optimiser by name; "sgd" has Nesterov's momentum of 0.9.
alpha : float, default=0.0
    Strength of the l2 penalty on the weights, divided by the batch's sample weight.
batch_size : int or "auto", default="auto"
    Samples per step; "auto" is ``min(64, n_samples)``.
{learning_rate_init}
max_iter : int, default=20
    Epochs.
{shuffle}
{random_state}
{tol}
{verbose}
{warm_start}
{early_stopping}
{validation_fraction}
n_iter_no_change : int, default=10
    Stop after more than so many epochs in a row without improvement; infinity never does.
"""

_LAYERED_END = """
optimizer : Optimizer, default=None
    An optimiser of `skdeep.training`, instead of `solver` and `learning_rate_init`.
schedule : Schedule, default=None
    A learning-rate schedule of `skdeep.training`; constant by default.
augmentation : Augmentation, default=None
    Random changes of the images in training (`skdeep.training.Augmentation`).
{l1}
{max_norm}
{clip_value}
accumulate_steps : int, default=1
    In how many parts a batch goes through the network, their gradients added up: less memory,
    the same step but for rounding (and for batch normalisation, which sees one part at a time,
    and keeps the mean of the parts' statistics).
checkpoint_activations : bool or int, default=False
    Whether activations are computed again in the backward pass instead of kept: the number of
    segments of which only the ends are kept; True takes the root of the number of layers. The
    same results, less memory, about a third more time.
activation_storage : {None, "bfloat16"}, default=None
    What activations are kept in between forward and backward pass: 16 bits halve the memory, and
    round what gradients are computed from to three digits.
{checkpoint}
n_jobs : int, default=None
    The threads that compute the parts of a batch, and predictions; None is one, -1 all. A batch
    goes in `accumulate_steps` parts, or in one for each thread where that is 1: set it, and the
    result does not depend on the number of threads.
{dtype}
{device}
{precision}
"""

_LAYERED_ATTRIBUTES = """
network_ : Network
    The layers with all their arrays.
{loss_}
loss_curve_ : list of float
    The loss of every epoch.
{best_loss_}
{validation_scores_}
{best_validation_score_}
n_iter_ : int
    Epochs of the last fit.
{t_}
{n_outputs_}
{out_activation_}
n_features_in_ : int
    The number of features: of pixels times channels.
{feature_names_in_}
{device_}
"""


def _filled(text):
    """Return a text with each ``{name}`` line replaced by the entry that the perceptrons have."""
    whole = _PARAMETERS + _PARAMETERS_END + _ATTRIBUTES
    entries = {re.match(r"\w+", e)[0]: e for e in re.split(r"\n(?=\w)", whole.strip())}
    return re.sub(r"(?m)^\{(\w+)\}$", lambda m: entries[m[1]].strip(), text)


def document(cls):
    """Fill the shared parts into a class's docstring."""

    def block(text):
        return textwrap.indent(text.strip(), "    ").strip()

    cls.__doc__ = cls.__doc__.format(
        summary=block(_SUMMARY),
        parameters=block(_PARAMETERS),
        parameters_end=block(_PARAMETERS_END),
        attributes=block(_ATTRIBUTES),
        layered_parameters=block(_filled(_LAYERED_PARAMETERS)),
        layered_end=block(_filled(_LAYERED_END)),
        layered_attributes=block(_filled(_LAYERED_ATTRIBUTES)),
    )
    return cls
