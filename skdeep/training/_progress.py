"""What is known of one member's training, apart from its arrays."""

from dataclasses import asdict, dataclass, field, replace

import numpy as np


@dataclass
class Progress:
    """How far one member's training has come.

    Parameters
    ----------
    epochs : int
        Epochs made since the weights were drawn; numbers the data orders.
    loss_curve, validation_scores : list of float
        The loss and, where there is a validation set, its score of every epoch.
    best_loss, best_score : float
        The best of them.
    no_improvement : int
        Epochs in a row that did not improve by `tol`.
    schedule : dict of str to float
        What the learning-rate schedule keeps.
    """

    epochs: int = 0
    loss_curve: list = field(default_factory=list)
    validation_scores: list = field(default_factory=list)
    best_loss: float = np.inf
    best_score: float = -np.inf
    no_improvement: int = 0
    schedule: dict = field(default_factory=dict)

    def judge(self, tol, by_score):
        """Count the last epoch as an improvement or not; return whether it is the best.

        An epoch improves when it is better than the best by `tol` (scikit-learn's rule).
        """
        loss, score = self.loss_curve[-1], [*self.validation_scores[-1:], -np.inf][0]
        if by_score:
            improved, better = score >= self.best_score + tol, score > self.best_score
        else:
            improved, better = loss <= self.best_loss - tol, loss < self.best_loss
            self.best_loss = min(self.best_loss, loss)
        self.best_score = max(self.best_score, score)
        self.no_improvement = 0 if improved else self.no_improvement + 1
        return better

    def copy(self):
        """Return a copy that can be trained on."""
        return replace(
            self,
            loss_curve=self.loss_curve[:],
            validation_scores=self.validation_scores[:],
            schedule=dict(self.schedule),
        )

    def to_dict(self):
        """Return plain numbers and lists."""
        return asdict(self)
