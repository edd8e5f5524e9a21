import datetime
import json

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lamina.core.errors import ConfigError, DataError
from lamina.data.tables import TableEncoder, TableSchema, base, check_schema, read_table, split_target
from tests.saving.files import memory_taken


def csv(folder, text, name="table.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# -- reading


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,x y\n,z\n",
        b"a,b\r\n1, x y \r\n\r\nNA,z\r\n",
        b"a;b\n1;x y\nnull;z",
        b'a\tb\n"1"\t"x y"\n?\tz\n',
        b"a|b\r1|x y\rNaN|z\r",
        b"\xef\xbb\xbfa,b\n1,x y\n,z\n",
        "a,b\n1,x y\n,z\n".encode("utf-16"),
        "a,b\n1,x y\n,z\n".encode("utf-16-be").join([b"\xfe\xff", b""]),
        b'\n"a","b"\n1,"x y"\n , z\n   \n',
    ],
)
def test_every_way_to_write_the_same_table(tmp_path, content):
    frame = read_table(csv(tmp_path, content))
    assert frame.to_dict(as_series=False) == {"a": ["1", None], "b": ["x y", "z"]}


def test_quotes_line_breaks_and_names_left_out(tmp_path):
    frame = read_table(csv(tmp_path, ',text\n0,"a ""b"", c\nd"\n'))
    assert frame.to_dict(as_series=False) == {"column_1": ["0"], "text": ['a "b", c\nd']}
    assert read_table(csv(tmp_path, "one\n1\n\n2\n")).to_dict(as_series=False) == {"one": ["1", "2"]}
    assert read_table(csv(tmp_path, "é\nü\n".encode("latin-1")), encoding="latin-1")["é"].to_list() == ["ü"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"table\.csv: this file is empty"),
        (b" \n\n", "this file is empty"),
        (b"\xef\xbb\xbf\n", "this file is empty"),
        (b"a,b\n", "a line of names, but no rows"),
        (b"a,b\n1,2\n\n1,2,3\n", "line 4: expected 2 values, as the first line has; there are 3"),
        (b'a,b\n"x\ny",2\n1\n', "line 4: expected 2 values, as the first line has; there are 1"),
        (b"a,b,a\n1,2,3\n", "columns 1 and 3 are both named 'a'"),
        (b"a,b\n1,\x00\n", "line 2: there is a NUL byte"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1: there is a NUL byte"),
        ("name\nJosé\n".encode("latin-1"), r'line 2: this is not utf-8 text.*encoding="latin-1"'),
        (b'a,b\n1,2\n"x,3\n4,5\n', "line 3: this row cannot be read: unexpected end of data"),
        (b'a,b\n1,"x"y\n', "line 2: this row cannot be read"),
        (b"5.1,3.5,1e-3\n4.9,3.0,1\n", r"line 1: expected the names of the columns; these are numbers: 5\.1, 3\.5"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, match):
    with pytest.raises(DataError, match=match) as caught:
        read_table(csv(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_small_parquet_file_of_a_huge_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "memory_left", lambda: 100_000_000)
    path = tmp_path / "t.parquet"
    pl.select(pl.repeat(1.5, 3_000_000).alias("a")).write_parquet(path)
    assert path.stat().st_size < 200_000
    with (
        memory_taken() as taken,
        pytest.raises(DataError, match=r"t.parquet: this table of 0 MB takes about 150 MB of m"),
    ):
        read_table(path)
    assert taken() < 10_000_000
    pl.DataFrame({"a": ["x" * 500_000] * 60}).write_parquet(path)
    assert path.stat().st_size < 200_000
    with pytest.raises(
        DataError, match=r"t.parquet: this table of 0 MB takes about 120 MB of memory, and there are 100 MB"
    ):
        read_table(path)


def test_other_files(tmp_path):
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", "NA"]})
    frame.write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").to_dict(as_series=False) == {"a": [1, 2], "b": ["x", None]}
    assert read_table(csv(tmp_path, "a\tb,c\n1\t2\n", "t.tsv")).columns == ["a", "b,c"]
    with pytest.raises(DataError, match="not a Parquet file"):
        read_table(csv(tmp_path, "a,b\n1,2\n", "bad.parquet"))
    with pytest.raises(DataError, match=r"t\.xlsx: expected a \.csv"):
        read_table(csv(tmp_path, "a", "t.xlsx"))
    with pytest.raises(DataError, match=r"none\.csv: this file cannot be read: No such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="received list"):
        read_table([[1, 2]])
    with pytest.raises(DataError, match="this is not a table"):
        read_table({"a": [1, 2], "b": [1, 2, 3]})
    with pytest.raises(DataError, match="there are no rows"):
        read_table({"a": []})


def test_pandas_and_polars_tables_mean_the_same():
    when = [datetime.datetime(2024, 1, 31, 12), datetime.datetime(2025, 2, 1, 13)]
    values = {"i": [1, 2], "f": [0.5, None], "t": ["x", None], "b": [True, False], "d": when}
    table = pd.DataFrame(values)
    table["c"] = pd.Categorical(["u", "v"])
    table["n"] = pd.array([3, None], dtype="Int64")
    table["z"] = table["d"].dt.tz_localize("Europe/Berlin")
    table["m"] = pd.Series([1, "a"], dtype=object)
    frame = read_table(table)
    expected = {**values, "c": ["u", "v"], "n": [3, None], "m": ["1", "a"]}
    expected["z"] = [value - datetime.timedelta(hours=1) for value in when]
    assert frame.to_dict(as_series=False) == expected
    mixed = pl.DataFrame({"c": ["u", "v"], "z": when}).with_columns(
        pl.col("c").cast(pl.Categorical), pl.col("z").dt.replace_time_zone("Europe/Berlin")
    )
    assert read_table(mixed.lazy()).to_dict(as_series=False) == {"c": ["u", "v"], "z": expected["z"]}
    table.columns = ["a", *"abcdefgh"]
    with pytest.raises(DataError, match="columns 1 and 2 are both named 'a'"):
        read_table(table)


# -- what columns mean


def kinds(columns, **options):
    return {column.name: (column.kind, column.dtype) for column in TableSchema.infer(columns, **options).columns}


def test_kinds_of_text_columns(tmp_path):
    text = (
        "whole,real,comma,flag,day,when,code,color\n"
        '1,1.5,"1,5",true,2024-01-31,31.12.2023 10:20,01234,red\n'
        '2,-2e3,"20,25",FALSE,2024-02-01,01.01.2024 11:20,04321,blue\n'
        "7,,3,true,NA,02.01.2024 12:20,01234,red\n"
    )
    schema = TableSchema.infer(csv(tmp_path, text))
    assert {column.name: (column.kind, column.dtype, column.format) for column in schema.columns} == {
        "whole": ("number", "integer", ""),
        "real": ("number", "float", ""),
        "comma": ("number", "float", ","),
        "flag": ("number", "boolean", ""),
        "day": ("date", "date", "%Y-%m-%d"),
        "when": ("date", "date", "%d.%m.%Y %H:%M"),
        "code": ("category", "text", ""),
        "color": ("category", "text", ""),
    }
    arrays = TableEncoder(schema).encode(csv(tmp_path, text))
    encoder = TableEncoder(schema)
    assert encoder.number_names == (
        *("whole", "real", "comma", "flag"),
        *("day month", "day day", "day weekday"),
        *("when year", "when month", "when day", "when weekday", "when hour"),
    )
    nan = np.nan
    np.testing.assert_array_equal(
        arrays["numbers"],
        np.array(
            [
                [1, 1.5, 1.5, 1, 1, 31, 3, 2023, 12, 31, 7, 10],
                [2, -2000, 20.25, 0, 2, 1, 4, 2024, 1, 1, 1, 11],
                [7, nan, 3, 1, nan, nan, nan, 2024, 1, 2, 2, 12],
            ],
            "float32",
        ),
    )
    assert arrays["code"].tolist() == ["01234", "04321", "01234"]
    assert arrays["color"].dtype.kind == "U"


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["2024/01/02", "2023/12/31"], "%Y/%m/%d"),
        (["13/01/2024", "01/02/2024"], "%d/%m/%Y"),
        (["01/13/2024", "01/02/2024"], "%m/%d/%Y"),
        (["2024-01-02T03:04:05Z", "2024-01-02T03:04:05.5+02:00"], "%Y-%m-%dT%H:%M:%S%.f%#z"),
        (["2024-01-02 03:04:05", "2024-01-03 03:04:05.25"], "%Y-%m-%d %H:%M:%S%.f"),
        (["1949-01", "1949-12"], "%Y-%m"),
    ],
)
def test_dates(values, form):
    (column,) = TableSchema.infer({"d": values}).columns
    assert (column.kind, column.format) == ("date", form)


@pytest.mark.parametrize("values", [["1/1/20", "2/1/20"], ["1,234", "5,678"], ["12:30", "x"], ["2024-13-01", "x"]])
def test_what_could_mean_two_things_stays_text(values):
    assert kinds({"x": values}) == {"x": ("category", "text")}


def test_dropped_columns_say_why():
    n = 40
    table = {
        "constant": ["same"] * n,
        "sometimes": ["yes", None] * (n // 2),
        "empty": [None] * n,
        "row": list(range(100, 100 + n)),
        "customer_id": [i * i for i in range(n)],
        "humid": [i * i for i in range(n)],
        "name": [f"name {i}" for i in range(n)],
        "typo": [str(i) for i in range(n - 1)] + ["l2"],
        "list": [[1, 2]] * n,
        "flag": [True, False] * (n // 2),
    }
    schema = TableSchema.infer(table)
    assert schema.reasons == {
        "constant": "its only value is 'same'",
        "empty": "it has no values",
        "row": "it counts the rows",
        "customer_id": "it is an identifier: by its name, and different in every row",
        "name": "it has 40 different texts in 40 rows: an identifier, or free text",
        "typo": "all but 1 of its 40 values are numbers; row 40 has 'l2'",
        "list": "its values are of type List(Int64)",
    }
    encoder = TableEncoder(schema)
    assert (encoder.number_names, encoder.category_names) == (("humid", "flag"), ("sometimes",))


def test_kinds_known_better():
    table = {"zip": [1, 2, 3], "x": ["1", "2", "a"], "d": ["2024-01-01", "2024-01-02", "2024-01-03"]}
    assert kinds(table, kinds={"zip": "category", "x": "dropped", "d": "category"}) == {
        "zip": ("category", "integer"),
        "x": ("dropped", "text"),
        "d": ("category", "date"),
    }
    with pytest.raises(DataError, match="column 'x', row 3: expected a number: 'a'"):
        TableSchema.infer(table, kinds={"x": "number"})
    with pytest.raises(DataError, match="column 'x' cannot be read as dates; the first value is '1'"):
        TableSchema.infer(table, kinds={"x": "date"})
    with pytest.raises(ConfigError, match="Did you mean 'number'"):
        TableSchema.infer(table, kinds={"x": "numbr"})
    with pytest.raises(DataError, match=r"there is no column 'zap'\. Did you mean 'zip'"):
        TableSchema.infer(table, kinds={"zap": "number"})
    with pytest.raises(DataError, match=r"no column to learn from \(x: its only value is '1'\)"):
        TableSchema.infer({"x": [1, 1], "y": [1, 2]}, target="y")
    with pytest.raises(DataError, match="it has the target only"):
        TableSchema.infer({"y": [1, 2]}, target="y")


# -- the task


@pytest.mark.parametrize(
    ("values", "task", "classes", "reason"),
    [
        (["b", "a", None, "b"], "classification", ("a", "b"), "y has 2 different texts: classification"),
        ([True, False], "classification", ("false", "true"), "y has 2 different truth values: classification"),
        (["True", "FALSE"], "classification", ("false", "true"), "y has 2 different truth values: classification"),
        ([0, 1], "classification", ("0", "1"), "y has 2 different whole numbers: classification"),
        ([0.0, 1.0, None], "classification", ("0", "1"), "y has 2 different whole numbers: classification"),
        ([10, 9, 2] * 3, "classification", ("2", "9", "10"), "y has 3 different whole numbers: classification"),
        ([10, 9, 2], "regression", (), "y has 3 different whole numbers: regression"),
        ([0.5, 1.0], "regression", (), "y has 2 different numbers: regression"),
        (["0.5", "1"], "regression", (), "y has 2 different numbers: regression"),
        (list(range(21)) * 9, "regression", (), "y has 21 different whole numbers: regression"),
    ],
)
def test_task_from_the_target(values, task, classes, reason):
    schema = TableSchema.infer({"x": [i / 2 for i in range(len(values))], "y": values}, target="y")
    assert (schema.task, schema.class_names, schema.reason) == (task, classes, reason)


def test_task_asked_for():
    table = {"x": [0.5, 1.5, 2.5], "y": [1.5, 0.25, 1.5], "t": ["1", "2", "u"]}
    schema = TableSchema.infer(table, "y", task="classification")
    assert schema.class_names == ("0.25", "1.5")
    assert schema.reason == "asked for; y has 2 different numbers: classification"
    assert TableEncoder(schema).targets({"y": ["1.50", ".25"]}).tolist() == [1, 0]
    with pytest.raises(DataError, match="column 't', row 3: expected a number: 'u'"):
        TableSchema.infer(table, "t", task="regression")
    with pytest.raises(ConfigError, match="Did you mean 'regression'"):
        TableSchema.infer(table, "y", task="regresion")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([None] * 30, "target column 'y': it has no values"),
        (["a"] * 30, "every value is 'a', so there is nothing to learn"),
        ([f"t{i}" for i in range(30)], "30 different texts in 30 rows are no classes"),
        ([f"2024-01-{i:02}" for i in range(1, 31)], "expected numbers or classes, not dates"),
        ([[1]] * 15 + [[2]] * 15, "expected numbers or classes, not List"),
    ],
)
def test_targets_that_cannot_be_learnt(values, match):
    with pytest.raises(DataError, match=match):
        TableSchema.infer({"x": [i / 2 for i in range(30)], "y": values}, target="y")


def test_a_target_that_is_missing(tmp_path):
    path = csv(tmp_path, "petal,species\n1,a\n2,b\n")
    with pytest.raises(DataError, match=r"photo: there is no target column 'spcies'\. Did you mean 'species'"):
        TableSchema.infer(path, target="spcies", name="photo")


# -- arrays


@pytest.fixture
def flowers():
    table = {"petal": [1.4, None, 1.3, 4.5], "color": ["red", "blue", None, "red"], "kind": ["a", "b", None, "b"]}
    return table, TableSchema.infer(table, target="kind")


def test_split_target_leaves_out_rows_without_one(flowers):
    table, schema = flowers
    frame, y = split_target(table, schema)
    assert y.tolist() == [0, 1, 1]
    assert y.dtype == np.int32
    arrays = TableEncoder(schema).encode(frame)
    np.testing.assert_array_equal(arrays["numbers"], np.array([[1.4], [np.nan], [4.5]], "float32"))
    assert arrays["color"].tolist() == ["red", "blue", "red"]
    with pytest.raises(DataError, match="column 'kind', row 3: the target is missing"):
        TableEncoder(schema).targets(table)
    with pytest.raises(DataError, match=r"row 2 \(and in 1 more rows\): not one of the classes learnt: 'c'"):
        TableEncoder(schema).targets({"kind": ["a", "c", "d"]})
    with pytest.raises(DataError, match="no target column 'kind'"):
        split_target({"petal": [1]}, schema)


def test_regression_targets():
    schema = TableSchema.infer({"x": [1.5, 2.5], "y": ["0,5", "1,25"]}, target="y")
    frame, y = split_target({"y": ["0,5", None, "3"]}, schema)
    assert frame.height == 2
    assert y.tolist() == [0.5, 3.0]
    assert y.dtype == np.float32
    with pytest.raises(DataError, match="row 1: expected a number: 'many'"):
        TableEncoder(schema).targets({"y": ["many"]})
    with pytest.raises(DataError, match="has no target"):
        TableEncoder(TableSchema.infer({"x": [1, 2]})).targets({"x": [1]})


def test_new_tables_are_checked(tmp_path, flowers):
    _, schema = flowers
    frame = check_schema({"extra": [[1]], "color": [1], "petal": ["2"]}, schema)
    assert frame.to_dict(as_series=False) == {"petal": [2.0], "color": ["1"]}
    path = csv(tmp_path, "petal,color\n1,red\nbig,red\n")
    with pytest.raises(DataError, match=r"new: there is no column 'color'\. Did you mean 'colour'"):
        check_schema({"petal": [1], "colour": ["red"]}, schema, "new")
    with pytest.raises(DataError, match="table, column 'petal', row 2: expected a number: 'big'"):
        check_schema(path, schema)
    with pytest.raises(DataError, match="column 'petal', row 2: expected a number that float32 can hold: 'inf'"):
        TableEncoder(schema).encode({"petal": [1, float("inf")], "color": ["red", "red"]})
    with pytest.raises(DataError, match="float32 can hold: '1e"):
        TableEncoder(schema).encode({"petal": ["1e39"], "color": ["red"]})
    with pytest.raises(DataError, match="expected a number in each row; its values are of type List"):
        check_schema({"petal": [[1]], "color": ["red"]}, schema)


def test_dates_are_read_as_they_were_learnt():
    learnt = TableSchema.infer({"d": ["13/01/2024", "01/02/2024"]})
    assert TableEncoder(learnt).number_names == ("d month", "d day", "d weekday")
    for new in (["03/04/2025", None], [datetime.date(2025, 4, 3), None], [datetime.datetime(2025, 4, 3, 9), None]):
        result = TableEncoder(learnt).encode({"d": new})["numbers"]
        np.testing.assert_array_equal(result, np.array([[4, 3, 4], [np.nan] * 3], "float32"))
    months = TableSchema.infer({"d": ["1949-01", "1949-12"]})
    assert check_schema({"d": ["1950-02"]}, months)["d"].to_list() == [datetime.datetime(1950, 2, 1)]
    with pytest.raises(DataError, match="row 1: expected a date like %d/%m/%Y: '2025-04-03'"):
        check_schema({"d": ["2025-04-03"]}, learnt)
    with pytest.raises(DataError, match="expected a date"):
        check_schema({"d": [3]}, learnt)
    typed = TableSchema.infer({"d": [datetime.date(2024, 1, 1), datetime.date(2025, 1, 1)]})
    assert check_schema({"d": ["2026-01-01"]}, typed)["d"].to_list() == [datetime.datetime(2026, 1, 1)]


@pytest.mark.parametrize("values", [[1, 2, 2], [1.0, 2.0, None], ["1", "2", "2"], ["1.0", "2.0", ""]])
def test_a_class_is_the_same_however_it_is_written(values):
    schema = TableSchema.infer({"c": values, "y": [0.5, 1.5, 2.5]}, target="y", kinds={"c": "category"})
    for new in ([1, 2, 3], [1.0, 2.0, 3.0], ["1", "2.0", "3"]):
        assert TableEncoder(schema).encode({"c": new})["c"].tolist() == ["1", "2", "3"]
    assert TableEncoder(schema).encode({"c": ["1.5", "x", None]})["c"].tolist() == ["1.5", "x", ""]


def test_truth_values_however_they_are_written():
    schema = TableSchema.infer({"b": [True, False], "c": ["True", "false"]}, kinds={"c": "category"})
    for new in ([True, False, None], ["TRUE", "false", "NA"], [1, 0, None]):
        arrays = TableEncoder(schema).encode({"b": new, "c": new})
        np.testing.assert_array_equal(arrays["numbers"][:, 0], [1, 0, np.nan])
        assert arrays["c"].tolist() == ["true", "false", ""]


def test_a_category_may_be_named_numbers():
    schema = TableSchema.infer({"numbers": ["a", "b"], "x": [1.5, 2.5]})
    arrays = TableEncoder(schema).encode({"numbers": ["a"], "x": [1]})
    assert {key: value.tolist() for key, value in arrays.items()} == {"numbers_": [[1.0]], "numbers": ["a"]}


def test_the_schema_survives_json(flowers):
    table, schema = flowers
    table = {**table, "when": ["2024-01-01", "2025-01-01"] * 2}
    schema = TableSchema.infer(table, target="kind")
    assert TableSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    plain = TableSchema.infer({"x": [1, 2]})
    assert TableSchema.from_dict(json.loads(json.dumps(plain.to_dict()))) == plain
    good = schema.to_dict()
    for key, value in [
        ("columns", 3),
        ("columns", [{}]),
        ("columns", [{**good["columns"][0], "parts": ["__class__"]}]),
        ("columns", [{**good["columns"][0], "kind": "code"}]),
        ("columns", [{**good["columns"][0], "more": 1}]),
        ("target", "kind"),
        ("task", "guess"),
        ("class_names", [1, 2]),
    ]:
        with pytest.raises(DataError, match="not a table's schema"):
            TableSchema.from_dict({**good, key: value})
    with pytest.raises(DataError, match="not a table's schema"):
        TableSchema.from_dict({})
