"""How networks are trained: optimisers, schedules, augmentation, checkpoints, TensorBoard."""

from skdeep.training._checkpoint import Checkpoint
from skdeep.training._tensorboard import TensorBoard
from skdeep.training.augmentation import Augmentation
from skdeep.training.optimizers import (
    FTRL,
    LBFGS,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Momentum,
    Nesterov,
    Optimizer,
    RMSProp,
)
from skdeep.training.schedules import (
    Adaptive,
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    Performance,
    Piecewise,
    Power,
    Schedule,
)

__all__ = [
    "FTRL",
    "LBFGS",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Adaptive",
    "Augmentation",
    "Checkpoint",
    "Constant",
    "Cosine",
    "Exponential",
    "InverseScaling",
    "Momentum",
    "Nesterov",
    "OneCycle",
    "Optimizer",
    "Performance",
    "Piecewise",
    "Power",
    "RMSProp",
    "Schedule",
    "TensorBoard",
]
