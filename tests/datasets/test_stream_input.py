"""What streams read, and what they say of what they cannot read."""

import gzip

import numpy as np
import pytest

from skdeep.datasets import (
    stream_arrays,
    stream_csv,
    stream_iterable,
    stream_npy,
    stream_npz,
)
from tests.datasets.streams import readers, shards, whole, write_csv

# ---------------------------------------------------------------- text


def test_text_labels_are_whole_whatever_the_block(tmp_path):
    labels = ["a", "a much longer label", "ü"]
    for i, label in enumerate(labels):
        write_csv(tmp_path / f"{i}.csv", np.full((20, 3), i), [label] * 20)
    for options in ({}, {"classes": labels}):
        stream = stream_csv(str(tmp_path / "*.csv"), target="label", buffer_size=8, **options)
        X, y, _ = whole(stream)
        assert y.dtype.kind == "U"
        assert y.tolist() == [labels[int(i)] for i in X[:, 0]]
        assert stream.target_dtype == np.dtype(str)
        assert stream.scan().classes.tolist() == sorted(labels)


def test_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id;x;"t 1";t 2;y\nu;1;2;3;4\n\n"v;w";5;6;7;8\n   \n', "utf-8")
    X, y = stream_csv(path, target="x", columns=["y", "t 1"], delimiter=";").take(5)
    assert (X.tolist(), y.tolist()) == ([[4, 2], [8, 6]], [1, 5])
    X, y = stream_csv(path, target=["t 2", 1], columns=[-1], delimiter=";").take(5)
    assert (X.tolist(), y.tolist()) == ([[4], [8]], [[3, 1], [7, 5]])
    X, y = stream_csv(path, target="id", delimiter=";").take(5)
    assert (X.tolist(), y.tolist()) == ([[1, 2, 3, 4], [5, 6, 7, 8]], ["u", "v;w"])
    path.write_bytes(b"\xef\xbb\xbf1,2\r\n3,4\r\n")
    X, y = stream_csv(path, header=False).take(5)
    assert (X.tolist(), y) == ([[1, 2], [3, 4]], None)


def test_numbers_are_read_as_numpy_reads_them(tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 3)) * 10.0 ** np.arange(-30, 31, 30)
    np.savetxt(tmp_path / "a.csv", X, delimiter=",")
    stream = stream_csv(tmp_path / "a.csv", header=False, dtype="float64")
    np.testing.assert_array_equal(stream.take(50)[0], X)


LINE = "1,2,3,0,1\n"
HEAD = "a,b,c,label,weight\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + LINE + "1,2,3,0\n", r"1\.csv, line 3: 4 cells, but there are 5 columns"),
        (HEAD + "\n" + LINE + "1,2,3,0,1,9\n", r"1\.csv, line 4: 6 cells"),
        (HEAD + LINE + '1,2,3,0,"1\n', r"1\.csv, line 3"),
        (HEAD + LINE * 30 + "1,,3,0,1\n", r"1\.csv, line 32, column 'b': the value is missing"),
        (HEAD + "1,2,x,0,1\n", r"1\.csv, line 2, column 'c': 'x' is no number"),
        (HEAD + LINE + "1,nan,3,0,1\n", r"1\.csv, line 3: feature 1 of X is nan"),
        (HEAD + LINE + "1,1e60,3,0,1\n", r"1\.csv, line 3: feature 1 .* beyond float32"),
        (HEAD + LINE + "1,2,3,,1\n", r"1\.csv, line 3, column 'label': the value is missing"),
        (HEAD + LINE + "1,2,3,cat,1\n", r"column 'label': 'cat' is no number, as the first"),
        (HEAD + LINE + "1,2,3,nan,1\n", r"1\.csv, line 3: y is nan"),
        (HEAD + LINE + "1,2,3,0,-1\n", r"1\.csv, line 3: sample_weight is -1"),
    ],
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_errors_name_the_file_and_the_line(text, message, shuffle, tmp_path):
    write_csv(tmp_path / "0.csv", *next(shards()))
    (tmp_path / "1.csv").write_text(text, encoding="utf-8")
    stream = stream_csv(
        str(tmp_path / "*.csv"), target="label", sample_weight="weight", shuffle=shuffle
    )
    for attempt in (lambda: whole(stream), stream.scan):
        with pytest.raises(ValueError, match=message):
            attempt()
        assert not readers()


def test_a_missing_label_of_text(tmp_path):
    write_csv(tmp_path / "a.csv", np.zeros((3, 3)), ["a", "", "b"])
    stream = stream_csv(tmp_path / "a.csv", target="label")
    with pytest.raises(ValueError, match=r"a\.csv, line 3, column 'label': the value is missing"):
        whole(stream)


def test_what_is_no_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 5000 + b"\xff,3\n")
    with pytest.raises(ValueError, match=r"a\.csv cannot be read as text: 'utf-8'"):
        whole(stream_csv(path))
    packed = gzip.compress(b"a,b\n1,2\n")
    for content in (packed[:-9], b"a,b\n1,2\n"):
        (tmp_path / "a.csv.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.csv\.gz cannot be read as text"):
            whole(stream_csv(tmp_path / "a.csv.gz"))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"1\.csv is empty"),
        ("a,b,c,label\n", {}, r"1\.csv, line 1: the header .* differs"),
        (HEAD, {"target": "wrong"}, r"target='wrong' is none of the columns \['a'"),
        (HEAD, {"target": 5}, "target=5 is out of range: there are 5 columns"),
        (HEAD, {"target": 1.5}, "target=1.5 must be a column's number or name"),
        (HEAD, {"header": False, "target": "a"}, "'a' must be a column's number, for there is no"),
        (HEAD, {"columns": []}, "leaves no column for X"),
        (HEAD, {"columns": ["a"], "target": "a"}, "has the target or the weight among"),
        (HEAD, {"delimiter": "::"}, "delimiter='::' must be one character"),
        (HEAD, {"header": "yes"}, "header='yes' must be True or False"),
    ],
)
def test_errors_before_anything_is_read(text, options, message, tmp_path):
    (tmp_path / "0.csv").write_text(HEAD + LINE)
    (tmp_path / "1.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        stream_csv(str(tmp_path / "*.csv"), **options)


# ---------------------------------------------------------------- other errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer_size": 0}, "'buffer_size' parameter"),
        ({"n_readers": 0}, "'n_readers' parameter"),
        ({"prefetch": 0}, "'prefetch' parameter"),
        ({"dtype": "int8"}, "'dtype' parameter"),
        ({"shuffle": 2}, "'shuffle' parameter"),
        ({"transform": 1}, "'transform' parameter"),
        ({"sample_shape": (0, 2)}, "sample_shape=.* must be a tuple of positive ints"),
        ({"classes": [1, 1]}, "must be different labels"),
        ({"classes": [[1, 2]]}, "must be different labels"),
        ({"classes": [1, None]}, "must be different labels"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        stream_arrays(np.zeros((2, 2)), **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0), "epoch=-1"),
        ((0, 0.5), "seed=0.5"),
        ((0, 0, 0), "size=0"),
    ],
)
def test_wrong_arguments_of_epoch(arguments, message):
    with pytest.raises(ValueError, match=message):
        stream_arrays(np.zeros((2, 2))).epoch(*arguments)


def test_wrong_arrays():
    X = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"X has 3 rows, y has shape \(2,\)"):
        stream_arrays(X, [0, 1])
    with pytest.raises(ValueError, match=r"X has 3 rows, sample_weight has shape \(2,\)"):
        stream_arrays(X, [0, 1, 2], [1, 1])
    with pytest.raises(ValueError, match="reshape X"):
        stream_arrays(np.zeros(3))
    with pytest.raises(ValueError, match="X must be numbers, its dtype is <U1"):
        stream_arrays([["a"]])
    with pytest.raises(ValueError, match="2 values, sample_shape=.* asks for 3"):
        stream_arrays(X, sample_shape=(3,)).take(1)
    with pytest.raises(ValueError, match="has no samples"):
        stream_arrays(X[:0]).epoch(0, 0).__next__()
    with pytest.raises(ValueError, match="sparse"):
        stream_arrays(__import__("scipy.sparse").sparse.eye_array(3).tocsr())
    X[1, 1] = np.inf
    with pytest.raises(ValueError, match="arrays in memory, row 1: feature 1 of X is inf"):
        stream_arrays(X).scan()
    with pytest.raises(ValueError, match="row 2: y is nan among strings"):
        stream_arrays(X[:1].repeat(3, 0), np.array(["a", "b", np.nan], object)).scan()
    with pytest.raises(ValueError, match="transform made an array of shape"):
        stream_arrays(np.zeros((3, 2)), transform=lambda x: x[:0]).take(1)


def test_wrong_files(tmp_path):
    np.save(tmp_path / "X0.npy", np.zeros((3, 2)))
    np.save(tmp_path / "X1.npy", np.zeros((4, 3)))
    np.save(tmp_path / "y.npy", np.zeros(3))
    np.save(tmp_path / "objects.npy", np.array([[None]]))
    (tmp_path / "text.npy").write_text("text")
    both = str(tmp_path / "X*.npy")
    with pytest.raises(ValueError, match=r"X1\.npy, row \d: samples of shape \(3,\)"):
        stream_npy(both).scan()
    with pytest.raises(ValueError, match="y_paths has 1 files, X_paths 2"):
        stream_npy(both, tmp_path / "y.npy")
    with pytest.raises(ValueError, match=r"X1\.npy: X has 4 rows, y has shape \(3,\)"):
        stream_npy(tmp_path / "X1.npy", tmp_path / "y.npy")
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.ones((3, 2))))
    for name, message in (
        ("objects", "holds Python objects"),
        ("text", "cannot be read as an array of NumPy"),
        ("fortran", "is in Fortran order"),
    ):
        with pytest.raises(ValueError, match=rf"{name}\.npy {message}"):
            stream_npy(tmp_path / f"{name}.npy")
    stream = stream_npy(tmp_path / "X0.npy")
    with open(tmp_path / "X0.npy", "r+b") as f:
        f.truncate((tmp_path / "X0.npy").stat().st_size - 8)
    with pytest.raises(ValueError, match=r"X0\.npy, row 0: the file is truncated"):
        stream.scan()
    with pytest.raises(FileNotFoundError, match="matches no file"):
        stream_npy(str(tmp_path / "z*.npy"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        stream_npy([tmp_path / "z.npy"])
    with pytest.raises(ValueError, match="X_paths is empty"):
        stream_npy([])


def test_wrong_archives(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, X=np.zeros((3, 2)), F=np.asfortranarray(np.ones((3, 2))), o=np.array([{}]))
    with pytest.raises(ValueError, match=r"a\.npz has no array y='y'; it has \['F', 'X', 'o'\]"):
        stream_npz(path)
    with pytest.raises(ValueError, match=r"a\.npz, array 'F' is in Fortran order"):
        stream_npz(path, X="F", y=None)
    with pytest.raises(ValueError, match=r"array 'o' holds Python objects"):
        stream_npz(path, y="o")
    assert stream_npz(path, y=None).take(2)[1] is None
    (tmp_path / "b.npz").write_text("text")
    with pytest.raises(ValueError, match=r"b\.npz cannot be read"):
        stream_npz(tmp_path / "b.npz")


def items(*items):
    return stream_iterable(lambda: iter(items))


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (items((np.zeros(2), 0), (np.zeros(3), 0)), r"row 1: X has shape \(3,\)"),
        (items((np.zeros(2), 0), (np.zeros(2), None)), "row 1: y has shape None"),
        (items((np.zeros(2), 0), np.zeros(2)), r"must be a tuple \(X, y\)"),
        (items((np.zeros((4, 2)), np.zeros(3))), "lengths must be equal"),
        (items((np.zeros((4, 2)), np.zeros(4)), (np.zeros((2, 3)), np.zeros(2))), "row 4: samp"),
        (items((np.zeros((2, 1)), [0, 1]), (np.zeros((2, 1)), [0.5, 1])), "row 2: y has dtype"),
        (items((np.zeros((2, 1)), [0, 1]), (np.zeros((2, 1)), ["a", "b"])), "row 2: y has dtype"),
        (items((np.zeros((2, 1)), None), (np.zeros((2, 1)), [1, 2])), "row 2: there is a y"),
        (items((np.zeros((2, 1)), [1, 2], [1, 1]), (np.zeros((2, 1)), [1, 2])), "row 2: no samp"),
        (items(), "has no samples"),
    ],
)
def test_wrong_items(stream, message):
    with pytest.raises(ValueError, match=message):
        stream.scan()


def test_an_iterator_is_no_function_that_makes_one():
    with pytest.raises(ValueError, match="must be a callable that returns a fresh iterator"):
        stream_iterable(iter([]))
    with pytest.raises(ValueError, match="blocks='no'"):
        stream_iterable(lambda: iter([]), blocks="no")
    used_up = iter([(np.zeros(2), 0)] * 3)
    stream = stream_iterable(lambda: used_up)
    assert stream.n_features == 2
    whole(stream)
    with pytest.raises(ValueError, match="gave no samples this time"):
        whole(stream)


def test_blocks_of_an_iterable_can_be_told():
    X = np.arange(6.0).reshape(3, 2)
    single = stream_iterable(lambda: ((x, np.array([x[0], x[1]])) for x in X), blocks=False)
    assert single.target_shape == (2,)
    np.testing.assert_array_equal(single.take(3)[1], X)
    images = stream_iterable(lambda: ((x[None], None) for x in X), blocks=False)
    assert images.sample_shape == (1, 2)
    assert stream_iterable(lambda: ((x[None], None) for x in X)).sample_shape == (2,)
