"""The loop: many nets as one, fallbacks, checkpoints, divergence."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skdeep._losses import get_loss
from skdeep._random import generator
from skdeep.layers import BatchNormalization, Dense, Dropout, GaussianNoise
from skdeep.layers._network import Network
from skdeep.training import Adam, Checkpoint, Constant, Nesterov, _step
from skdeep.training._loop import Settings, Trainer
from skdeep.training._progress import Progress
from skdeep.training._source import Rows
from skdeep.training._step import Buffers, Data, Step

N, D, K = 203, 12, 4
rng = np.random.default_rng(0)
X = rng.standard_normal((N, D)).astype(np.float32)
Y = rng.integers(0, K, N)

MEMBERS = dict(
    seeds=[3, 14, 15, 92, 65],
    rates=[1e-3, 3e-3, 1e-2, 1e-4, 2e-3],
    alphas=[0.0, 1e-3, 1e-1, 0.0, 1.0],
    dropout=[0.0, 0.1, 0.5, 0.3, 0.2],
)


def stack(rate, layers=None):
    return [
        ("noise", GaussianNoise(0.05)),
        ("hidden1", Dense(17, "relu", dropconnect=0.1)),
        ("norm", BatchNormalization()),
        ("drop1", Dropout(rate)),
        ("hidden2", Dense(9, "tanh")),
        ("output", Dense(K)),
    ]


def trainer(
    which, *, epochs=5, rows=None, data=None, batch=32, n_jobs=1, checkpoint=None, test=1, **kw
):
    """Return a trainer of some of the members."""
    identity = {"test": test}
    pick = {k: [v[i] for i in which] for k, v in MEMBERS.items()}
    network = Network(stack(0.5), (D,), len(which), np.float32)
    site = [name for name, _ in network.layers].index("drop1")
    network.hyper[site]["rate"][:] = pick["dropout"]
    for m, seed in enumerate(pick["seeds"]):
        network.initialize(generator(seed), m)
    optimizers = [Adam(rate) for rate in pick["rates"]]
    rows = [np.arange(N) if rows is None else rows[i] for i in which]
    steps = max(-(-len(r) // batch) for r in rows)
    buffers = Buffers.allocate(
        network,
        optimizers,
        steps,
        penalties=[[a, 0.0] for a in pick["alphas"]],
        limits=[[0.0] * len(which)] * 4,
        seeds=pick["seeds"],
    )
    settings = Settings(
        batch_size=batch,
        max_iter=epochs,
        horizon=epochs,
        schedule=Constant(),
        learning_rates=tuple(pick["rates"]),
        tol=0.0,
        n_iter_no_change=np.inf,
        n_jobs=n_jobs,
    )
    data = data or Data(X, Y)
    return Trainer(
        network,
        get_loss("log_loss"),
        optimizers,
        [Rows(data, r) for r in rows],
        settings,
        buffers,
        [Progress() for _ in which],
        checkpoint=checkpoint,
        found=checkpoint and checkpoint.load(identity),
        fingerprint=identity,
        **kw,
    )


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_members_equal_solo_runs_bit_for_bit(n_jobs):
    """Own seeds, rates, penalties, dropout, data orders; unequal subsets of the data."""
    subsets = [
        np.arange(N),
        np.arange(0, N, 2),
        np.arange(100),
        np.arange(50, N),
        np.arange(7, 90),
    ]
    together = trainer(range(5), rows=subsets, n_jobs=n_jobs).run()
    for i in range(5):
        alone = trainer([i], rows=subsets).run()
        assert np.array_equal(alone.network.data[0], together.network.data[i])
        assert np.array_equal(alone.network.state_data[0], together.network.state_data[i])
        assert alone.progress[0].loss_curve == together.progress[i].loss_curve
    assert len({row.tobytes() for row in together.network.data}) == 5


def test_stacked_program_equals_solo_programs_bit_for_bit():
    """One program over the member axis gives every member its solo weights."""
    solo = trainer(range(5)).run()
    stacked = trainer(range(5))
    network, b = stacked.network, stacked.buffers
    order = np.zeros((5, N), np.int64)
    step = Step(network, get_loss("log_loss"), Adam(), Data(X, Y), order, b)
    for epoch in range(5):
        b.counters[:, 1:] = 0
        from skdeep._random import permutation

        for m in range(5):
            order[m] = permutation(b.seeds[m], epoch, N)
            b.rates[m] = MEMBERS["rates"][m]
        step(32, N // 32)
        step(N % 32)
    assert np.array_equal(network.data, solo.network.data)
    assert np.array_equal(network.state_data, solo.network.state_data)


def test_python_replay_and_eager_steps_equal_native_bit_for_bit():
    native = trainer([1]).run()
    python, eager = trainer([1]), trainer([1])
    for t, kind in ((python, "run"), (eager, "eager")):
        step = t.steps[0]
        if kind == "eager":
            step.loss = lambda raw, y, loss=step.loss: loss(raw, y) if np.all(raw < 1e9) else None
        for size in (32, N % 32):
            step._programs[size] = step.program(size).run
        t.run()
        assert (step.unrecordable is None) == (kind == "run")
        assert np.array_equal(t.network.data, native.network.data), kind


def test_a_step_moved_to_other_memory_equals_one_recorded_anew():
    """The second fit of a structure takes over the first one's program, constants and all."""
    _step._RECORDED.clear()
    for which in ([0], [3], [1], [2]):
        moved = trainer(which).run()
        _step._RECORDED.clear()
        anew = trainer(which).run()
        assert np.array_equal(moved.network.data, anew.network.data)
        assert np.array_equal(moved.network.state_data, anew.network.state_data)
    assert len(_step._RECORDED._items) == 2  # a full batch and the rest
    trainer([1]).run()  # another penalty than zero: another structure
    trainer([4]).run()
    assert len(_step._RECORDED._items) == 2


def test_foreign_code_is_recorded_every_time():
    """It might capture arrays, which another fit must not see."""
    _step._RECORDED.clear()
    network = Network([("hidden", Dense(5, np.tanh)), ("out", Dense(K))], (D,))
    assert _step._structure_of(network, get_loss("log_loss")) is None
    layers = [("hidden", Dense(5, "tanh")), ("out", Dense(K))]
    callable_loss = get_loss(lambda y, raw: np.sum((raw - y) ** 2, axis=1))
    assert _step._structure_of(Network(layers, (D,)), callable_loss) is None
    smoothed = [get_loss("log_loss", label_smoothing=s) for s in (0.0, 0.1)]
    assert len({_step._structure_of(Network(layers, (D,)), loss) for loss in smoothed}) == 2


def test_resumes_bit_for_bit(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = trainer(range(3), epochs=6).run()
    trainer(range(3), epochs=4, checkpoint=Checkpoint(path, every=2)).run()
    resumed = trainer(range(3), epochs=6, checkpoint=Checkpoint(path)).run()
    assert np.array_equal(whole.network.data, resumed.network.data)
    assert whole.progress == resumed.progress
    assert list(resumed.n_iter) == [6, 6, 6]


def test_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    trainer([0], epochs=1, checkpoint=Checkpoint(path)).run()
    with pytest.raises(ValueError, match="belongs to another training .test: 1, now 2"):
        trainer([0], epochs=2, checkpoint=Checkpoint(path), test=2)


@pytest.mark.parametrize("keep", [0, 7, 100, -3])
def test_truncated_checkpoint_is_an_error_that_says_how_to_mend(tmp_path, keep):
    path = tmp_path / "run.safetensors"
    trainer([0], epochs=1, checkpoint=Checkpoint(path)).run()
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(ValueError, match="truncated or not a checkpoint.*[Dd]elete it"):
        trainer([0], epochs=2, checkpoint=Checkpoint(path))


def test_a_member_that_diverges_at_once_leaves_the_others_alone():
    group, alone = trainer([0, 1]), trainer([1]).run()
    group.network.data[0, :5] = np.nan
    with pytest.warns(ConvergenceWarning, match="diverged in epoch 1"):
        group.run()
    assert np.array_equal(group.network.data[1], alone.network.data[0])
    assert "diverged" in group.messages[0]
    assert group.messages[1] is None
    single = trainer([0])
    single.network.data[:] = np.nan
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        single.run()


def test_zero_weight_batches_move_nothing():
    weight = np.zeros(N, np.float32)
    t = trainer([2], data=Data(X, Y, weight), epochs=2)
    t.network.hyper[2] = {}
    before = t.network.data.copy()
    t.run()
    assert np.isfinite(t.network.data).all()
    assert np.array_equal(before, t.network.data)


def test_sparse_rows_equal_dense_rows():
    import scipy.sparse as sp

    thin = np.where(np.abs(X) > 1, X, 0)
    dense = trainer([1], data=Data(thin, Y)).run()
    sparse = trainer([1], data=Data(sp.csr_array(thin), Y)).run()
    assert np.array_equal(dense.network.data, sparse.network.data)


def test_regression_targets_and_other_optimisers():
    network = Network([("hidden", Dense(5, "relu")), ("out", Dense(2))], (D,))
    network.initialize(generator(0))
    targets = X[:, :2].copy()
    nesterov = Nesterov(0.02, momentum=0.9)
    b = Buffers.allocate(network, [nesterov], 7, [[0, 0]], [[0.0]] * 4, [0])
    settings = Settings(32, 40, Constant(), (0.02,), 0.0, np.inf, 40)
    loss = get_loss("squared_error")
    t = Trainer(
        network,
        loss,
        [nesterov],
        [Rows(Data(X, targets), np.arange(N))],
        settings,
        b,
        [Progress()],
    ).run()
    curve = t.progress[0].loss_curve
    assert curve[-1] < 0.1 * curve[0]
