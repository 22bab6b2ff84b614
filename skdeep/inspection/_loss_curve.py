"""Learning curves."""

from skdeep.inspection._fitted import unwrapped
from skdeep.inspection._tiles import pyplot


class LossCurveDisplay:
    """The loss, and the validation score where there is one, over the epochs of a fit.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        The loss of every epoch.
    validation_scores : array-like of shape (n_epochs,), default=None
        The validation score of every epoch.
    estimator_name : str, default=None
        The name in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the loss is drawn.
    score_ax_ : matplotlib Axes or None
        Where the validation score is drawn (the right-hand scale).
    line_, score_line_ : matplotlib Artist
        The curves.
    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdeep.inspection import LossCurveDisplay
    >>> from skdeep.neural_network import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier((10,), max_iter=30, tol=1e-1, random_state=0).fit(X, y)
    >>> display = LossCurveDisplay.from_estimator(mlp)  # doctest: +SKIP
    """

    def __init__(self, loss_curve, *, validation_scores=None, estimator_name=None):
        self.loss_curve = loss_curve
        self.validation_scores = validation_scores
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(cls, estimator, *, name=None, ax=None, **kwargs):
        """Draw the learning curve of a fitted estimator.

        Parameters
        ----------
        estimator : estimator instance
            A fitted network, or a Pipeline or search that ends in one.
        name : str, default=None
            The name in the legend; the estimator's class by default.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        TypeError
            If the estimator keeps no `loss_curve_`.
        """
        inner, _ = unwrapped(estimator, "loss_curve_")
        display = cls(
            inner.loss_curve_,
            validation_scores=getattr(inner, "validation_scores_", None),
            estimator_name=name or type(inner).__name__,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, *, ax=None, log=False, **kwargs):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        log : bool, default=False
            Whether the loss has a logarithmic scale.
        **kwargs : dict
            Passed to matplotlib's `plot` for the loss.

        Returns
        -------
        self : LossCurveDisplay
        """
        plt = pyplot("LossCurveDisplay")
        if ax is None:
            _, ax = plt.subplots()
        epochs = range(1, len(self.loss_curve) + 1)
        label = "loss" if self.estimator_name is None else f"{self.estimator_name}: loss"
        (self.line_,) = ax.plot(epochs, self.loss_curve, **{"label": label, **kwargs})
        ax.set(xlabel="epoch", ylabel="loss")
        if log:
            ax.set_yscale("log")
        lines, self.score_ax_, self.score_line_ = [self.line_], None, None
        if self.validation_scores is not None and len(self.validation_scores):
            self.score_ax_ = ax.twinx()
            scored = range(1, len(self.validation_scores) + 1)
            (self.score_line_,) = self.score_ax_.plot(
                scored, self.validation_scores, color="C1", label="validation score"
            )
            self.score_ax_.set_ylabel("validation score")
            lines.append(self.score_line_)
        ax.legend(lines, [line.get_label() for line in lines], loc="center right")
        self.ax_, self.figure_ = ax, ax.figure
        return self
