"""Multilayer perceptrons: skdeep, scikit-learn and torch side by side, one thread each."""

import tempfile

from . import common

EPOCHS = {"digits": 10, "mnist": 1}
N_ROWS = {"digits": None, "mnist": 10_240}
SCORE_EPOCHS = {"digits": 30, "mnist": 3}
CASES = [f"{name}-{batch}" for name, (_, batches) in common.SETTINGS.items() for batch in batches]


class _MLP:
    param_names = ("library", "case")
    params = (common.LIBRARIES, CASES)
    epochs = EPOCHS
    n_rows = N_ROWS

    def setup(self, library, case):
        # asv takes this as "skip".
        if library == "torch" and not common.HAS_TORCH:
            raise NotImplementedError("torch is not installed")
        name, batch = case.split("-")
        common.quiet()
        X, y, self.X_test, self.y_test = common.load(name, self.n_rows[name])
        self.X, self.y = common.whole_batches(X, y, int(batch))
        self.model = common.make(library, common.SETTINGS[name][0], int(batch), self.epochs[name])
        self.prepare()

    def prepare(self):
        # The first fit compiles or loads kernels, and is measured elsewhere.
        self.model.fit(self.X, self.y)
        common.one_thread()


class Fit(_MLP):
    def time_fit(self, library, case):
        self.model.fit(self.X, self.y)

    def peakmem_fit(self, library, case):
        self.model.fit(self.X, self.y)


class Predict(_MLP):
    # The batch size is of no consequence here.
    params = (common.LIBRARIES, ["digits-200", "mnist-200"])

    def time_predict(self, library, case):
        self.model.predict(self.X_test)

    def time_predict_one(self, library, case):
        self.model.predict(self.X_test[:1])

    def peakmem_predict(self, library, case):
        self.model.predict(self.X_test)


class Score(_MLP):
    params = (common.LIBRARIES, ["digits-32", "mnist-200"])
    epochs = SCORE_EPOCHS
    n_rows = dict.fromkeys(N_ROWS)

    def prepare(self):
        common.one_thread()

    def track_score(self, library, case):
        return self.model.fit(self.X, self.y).score(self.X_test, self.y_test)

    track_score.unit = "accuracy on held-out rows"


class Import:
    param_names = ("module",)
    params = (["sklearn", "skdeep", "sklearn.neural_network", "skdeep.neural_network"],)

    def setup(self, module):
        self.track_import(module)  # the first import writes bytecode

    def track_import(self, module):
        return min(common.in_subprocess(f"import {module}")[0] for _ in range(5))

    track_import.unit = "s"


class FirstFit:
    def track_empty_cache(self):
        return common.first_fit_cold()

    def track_warm_cache(self):
        with tempfile.TemporaryDirectory() as directory:
            common.first_fit("skdeep", directory)
            return min(common.first_fit("skdeep", directory) for _ in range(3))

    def track_sklearn(self):
        return min(common.first_fit("sklearn") for _ in range(3))

    track_empty_cache.unit = track_warm_cache.unit = track_sklearn.unit = "s"
