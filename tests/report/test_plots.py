import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from lamina.core.errors import ConfigError, DataError
from lamina.report import (
    confusion_matrix,
    curves,
    forecast,
    picture_grid,
    picture_rows,
    plane,
    png,
    predicted_against_true,
    style,
)

HISTORY = {
    "loss": [3.0, 1.0, 0.5],
    "accuracy": [0.5, 0.6, 0.9],
    "val_loss": [3.0, 2.0, 2.5],
    "val_accuracy": [0.5, 0.7, 0.6],
}


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def test_curves_have_the_values_from_epoch_one_on():
    loss, accuracy = curves(HISTORY).axes
    assert [axes.get_title(loc="left") for axes in (loss, accuracy)] == ["Loss", "Accuracy"]
    assert lines(loss)["training"].get_xydata().tolist() == [[1, 3], [2, 1], [3, 0.5]]
    assert lines(accuracy)["validation"].get_ydata().tolist() == [0.5, 0.7, 0.6]
    assert loss.get_title(loc="right") == "best 2 (epoch 2)"
    assert accuracy.get_title(loc="right") == "best 0.7 (epoch 2)"


def test_curves_of_other_kinds():
    figure = curves(
        {"rate": [1e-3, 1e-6], "learning_rate": [0.1, 0.2], "d_loss": [np.nan, 2.0], "g_loss": [np.nan, np.nan]}
    )
    rate, learning_rate, d_loss, g_loss = figure.axes
    assert (rate.get_yscale(), d_loss.get_yscale()) == ("log", "linear")
    assert learning_rate.get_title(loc="right") == ""
    assert d_loss.get_title(loc="right") == "best 2 (epoch 2)"
    assert [text.get_text() for text in g_loss.texts] == ["no finite values"]
    (only,) = curves({"val_loss": [2.0]}).axes
    assert only.get_title(loc="right") == "best 2 (epoch 1)"


@pytest.mark.parametrize("history", [{}, {"loss": []}, {"loss": 3.0}, {"loss": [[1.0]]}])
def test_no_curves(history):
    with pytest.raises(DataError, match="expects a list of numbers for each metric"):
        curves(history)


def test_confusion_matrix_counts_and_percents():
    true, predicted = [0] * 200 + [1, 1, 1, 2], [0] * 199 + [1, 1, 1, 0, 2]
    (axes,) = confusion_matrix(true, predicted, ["a", "b", "c", "none $x$"]).axes
    texts = " ".join(text.get_text() for text in axes.texts)
    assert texts == "199 99% 1 <1% 0 0 1 33% 2 67% 0 0 0 0 1 100% 0 0 0 0 0"
    assert axes.get_title(loc="left") == "99.0% of 204 right"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "none $x$"]
    (image,) = axes.images
    colors = image.get_array()
    assert to_hex(colors[2, 2]) == style.BLUE  # all of row c is right
    assert to_hex(colors[3, 3]) == "#f8f9fb"  # a class that does not occur
    assert colors[1, 0, 0] > colors[1, 0, 2]  # a mistake is orange


def test_confusion_matrix_of_many_classes_leaves_zeros_out():
    labels = np.arange(40)
    (axes,) = confusion_matrix(labels, labels, [f"class {i} with a very long name" for i in labels]).axes
    assert [text.get_text() for text in axes.texts] == ["1"] * 40
    assert axes.get_xticklabels()[39].get_text() == "class 39 with a very …"


@pytest.mark.parametrize(
    ("true", "predicted", "match"),
    [
        ([0, 1], [0], r"received int64 \(1,\)"),
        ([0, 1], [[0.2, 0.8], [0.9, 0.1]], r"y_pred.argmax\(-1\)"),
        ([0, 1], [0.0, 1.0], "received float64"),
        ([], [], "as 0 class indices"),
        ([0, 2], [0, 1], "y_true goes from 0 to 2; there are 2 class names"),
        ([0, 1], [-1, 1], "y_pred goes from -1 to 1"),
    ],
)
def test_confusion_matrix_of_something_else(true, predicted, match):
    with pytest.raises(DataError, match=match):
        confusion_matrix(true, predicted, ["a", "b"])


def test_predicted_against_true():
    from sklearn.metrics import mean_absolute_error, r2_score

    rng = np.random.default_rng(0)
    true = rng.normal(size=50)
    predicted = true + 0.3 * rng.normal(size=50)
    (axes,) = predicted_against_true(true[:, None], predicted, name="price").axes
    r2, error = r2_score(true, predicted), mean_absolute_error(true, predicted)
    assert axes.get_title(loc="left") == f"R² {r2:.3f}   mean absolute error {error:.4g}"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("price, true", "price, predicted")
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), np.column_stack([true, predicted]))
    assert axes.get_xlim() == axes.get_ylim()
    assert predicted_against_true([1.0], [1.0]).axes[0].get_title(loc="left").startswith("R² nan")
    with pytest.raises(DataError, match="received 2 and 1"):
        predicted_against_true([1.0], [1.0, 2.0])
    with pytest.raises(DataError, match="finite"):
        predicted_against_true([1.0, np.nan], [1.0, 2.0])


def test_picture_grid():
    pictures = np.zeros((5, 4, 6, 1))
    pictures[0, 0, 0] = 0.5
    pictures[0, 0, 1] = 7.0
    figure = picture_grid(pictures, [*"abcd", "dog\n(cat)"], wrong=[False] * 4 + [True])
    assert len(figure.axes) == 5
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array()[0, :3], [[128] * 3, [255] * 3, [0] * 3])
    assert [axes.title.get_text() for axes in figure.axes] == ["a", "b", "c", "d", "dog\n(cat)"]
    assert [to_hex(axes.title.get_color()) for axes in figure.axes] == [style.INK] * 4 + [style.RED]
    assert to_hex(figure.axes[4].spines["top"].get_edgecolor()) == style.RED
    assert len(picture_grid(np.zeros((2, 3, 3, 3), "uint8"), columns=1).axes) == 2
    for pictures, options, match in [
        (np.zeros((0, 4, 4)), {}, "picture_grid expects"),
        (np.zeros((4, 4)), {}, "picture_grid expects"),
        (np.zeros((1, 4, 4, 2)), {}, "picture_grid expects"),
        (np.zeros((2, 4, 4)), {"titles": ["a"]}, "2 pictures, but 1 titles"),
        (np.zeros((2, 4, 4)), {"wrong": [True]}, "2 pictures, but 1 marks"),
    ]:
        with pytest.raises(DataError, match=match):
            picture_grid(pictures, **options)


def test_picture_rows():
    small, large = np.zeros((4, 6), "uint8"), np.full((8, 12, 3), 0.5)
    figure = picture_rows(
        [[small, large], [small, large]], ["a", "a name that is much longer than its row"], titles="pq"
    )
    assert [axes.get_ylabel() for axes in figure.axes] == ["a", "", "a name that is m…", ""]
    assert [axes.title.get_text() for axes in figure.axes] == ["p", "q", "", ""]
    assert [axes.images[0].get_array().shape for axes in figure.axes[:2]] == [(4, 6, 3), (8, 12, 3)]
    assert figure.axes[1].images[0].get_array()[0, 0].tolist() == [128] * 3
    for rows, options, match in [
        ([], {}, "picture_rows expects"),
        ([[small], [small, small]], {}, "rows of \\[1, 2\\]"),
        ([[np.zeros((4, 4, 2))]], {}, r"\(4, 4, 2\)"),
        ([[small]], {"names": ["a", "b"]}, "1 rows, but 2 names"),
        ([[small]], {"titles": ["a", "b"]}, "1 columns, but 2 names"),
    ]:
        with pytest.raises(DataError, match=match):
            picture_rows(rows, **options)


def test_forecast():
    months = np.arange("2024-01", "2024-07", dtype="M8[M]")
    bounds = [[1.0, 2.0], [3.0, 4.0]]
    figure = forecast(months[:4], [1.0, np.nan, 3.0, 2.0], [(months[4:], [2.0, 3.0], bounds)] * 2, name="sold")
    (axes,) = figure.axes
    assert axes.lines[0].get_ydata()[[0, 2, 3]].tolist() == [1, 3, 2]
    assert axes.lines[1].get_ydata().tolist() == [2, 3]
    assert len(axes.collections) == 2
    assert {tuple(point) for point in axes.collections[0].get_paths()[0].vertices[:, 1:]} >= {(1,), (2,), (3,), (4,)}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sold", "forecast", "80% interval"]
    assert [text.get_text() for text in forecast([1], [2.0], []).legends[0].get_texts()] == ["series"]
    assert not forecast([1], [2.0], [([2], [2.0], None)]).axes[0].collections
    with pytest.raises(DataError, match=r"each of the values; received \(2,\), \(1,\)"):
        forecast([1, 2], [1.0], [])
    with pytest.raises(DataError, match="each of the forecasts"):
        forecast([1], [1.0], [([2, 3], [1.0], None)])


def test_plane():
    points = np.random.default_rng(0).normal(size=(30, 2))
    classes = np.arange(30) % 3
    figure = plane(points, classes, axis_names=("width", "height"))
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1", "2"]
    np.testing.assert_array_equal(axes.collections[1].get_offsets(), points[classes == 1])
    assert [to_hex(found.get_facecolor()[0]) for found in axes.collections] == list(style.MANY[:3])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("width", "height")
    for many in (None, np.arange(30)):  # without classes, or with too many to tell apart
        figure = plane(points, many)
        assert not figure.legends
        assert len(figure.axes[0].collections) == 1
    with pytest.raises(DataError, match=r"shape \(n, 2\); received \(30, 1\)"):
        plane(points[:, :1])
    with pytest.raises(DataError, match="30 points, but classes of shape"):
        plane(points, [1])


def test_losses_of_a_gan_have_no_best_epoch():
    (axes,) = curves({"generator_loss": [1.0, 0.5, 2.0]}).axes
    assert axes.get_title(loc="right") == ""


def test_files_are_the_same_every_time_and_settings_return(tmp_path):
    before = dict(matplotlib.rcParams)
    for kind in ("png", "svg", "pdf"):
        first, second = (tmp_path / folder / f"a.{kind}" for folder in ("one", "two"))
        confusion_matrix([0, 1], [0, 1], ["a", "b"], first)
        confusion_matrix([0, 1], [0, 1], ["a", "b"], second)
        assert first.read_bytes() == second.read_bytes()
    figure = confusion_matrix([0, 1], [0, 1], ["a", "b"], tmp_path / "a.png")
    assert png(figure) == (tmp_path / "a.png").read_bytes() == (tmp_path / "one" / "a.png").read_bytes()
    assert Image.open(tmp_path / "a.png").convert("L").getextrema()[0] < 120
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(ConfigError, match=r"ends in \.png, \.svg or \.pdf"):
        curves(HISTORY, tmp_path / "a.jpg")


def test_no_window_system_and_nothing_heavy_before_it_is_needed():
    code = (
        "import sys, lamina.report, lamina.data.pictures, lamina.data.tables, lamina.datasets\n"
        "heavy = {'matplotlib', 'PIL', 'polars', 'pandas', 'sklearn', 'urllib.request'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "lamina.report.png(lamina.report.curves({'loss': [1.0, 2.0]}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
