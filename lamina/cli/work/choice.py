"""Which families fit which data, and which one is taken if none is asked for: the first that is named here."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lamina import families
from lamina.cli.work.base import Examples, Work
from lamina.cli.work.codes import PictureCodes, TableCodes
from lamina.cli.work.dates import find_dates, is_year
from lamina.cli.work.gan import Drawing
from lamina.cli.work.language import Language
from lamina.cli.work.pictures import Pictures, class_folders, picture_files
from lamina.cli.work.series import Series
from lamina.cli.work.table import Table
from lamina.cli.work.texts import WORDS, Texts, text_columns
from lamina.cli.work.upscaling import Upscaling
from lamina.core.errors import ConfigError, DataError, FileError, nearest
from lamina.data.tables import TableSchema, read_table

TABLES = (".csv", ".tsv", ".parquet", ".pq")
TEXTS = (".txt", ".md")
FAMILIES = ("fcnn", "cnn", "rnn", "autoencoder", "vae", "gan", "super-resolution", "transformer")
WORKS: tuple[type[Work], ...] = (Table, Texts, Series, TableCodes, Pictures, PictureCodes, Drawing, Upscaling, Language)

#: family -> a function from its name to the work and the examples
Fits = dict[str, Callable[[str], tuple[Any, Examples]]]


def find_work(data: Path, target: str | None, family: str | None) -> tuple[Work, Examples, list[str]]:
    """The work that some data ask for, the examples in them, and the other families that would do.

    Raises:
        DataError: if the data are of no kind that is known.
        ConfigError: if the family asked for is not for them.
    """
    if family is not None and family not in FAMILIES:
        raise ConfigError(f"--family {family} is not known. {nearest(family, FAMILIES)}")
    if not data.exists():
        raise DataError(f"there is no file or folder {data}")
    if data.is_dir():
        what, fits = _folder(data, target)
    elif data.suffix.lower() in TABLES:
        what, fits = _table(data, target)
    elif data.suffix.lower() in TEXTS:
        what, fits = _text(data, target)
    else:
        raise DataError(
            f"{data}: expected a table ({', '.join(TABLES)}), a text ({', '.join(TEXTS)}) or a folder of pictures"
        )
    chosen = family or next(iter(fits))
    if chosen not in fits:
        raise ConfigError(f"--family {chosen} is not for {data}, {what}; what fits: {', '.join(fits)}")
    work, examples = fits[chosen](chosen)
    return work, examples, [name for name in fits if name != chosen]


def _folder(data: Path, target: str | None) -> tuple[str, Fits]:
    if target is not None:
        raise ConfigError("--target is for tables; in a folder of pictures the folders' names are the classes")
    picture_files(data)
    fits: Fits = {"cnn": partial(Pictures.find, data)} if class_folders(data) else {}
    fits |= dict.fromkeys(("autoencoder", "vae"), partial(PictureCodes.find, data))
    fits |= {"gan": partial(Drawing.find, data), "super-resolution": partial(Upscaling.find, data)}
    return "a folder of pictures" + ("" if class_folders(data) else " without folders for classes"), fits


def _table(data: Path, target: str | None) -> tuple[str, Fits]:
    frame = read_table(data)
    fits: Fits = {"fcnn": partial(Table.find, data, frame, target)}
    features = frame.drop(target, strict=False) if target else frame
    texts = text_columns(features, least=2)
    years = [name for name in features.columns if is_year(frame[name])]
    kinds = dict.fromkeys(texts, "category") | dict.fromkeys(years, "number")
    schema = TableSchema.infer(frame, target, kinds, name=str(data))
    what = "a table"
    if target is not None and schema.task == "classification" and texts:
        long = text_columns(features, WORDS)
        only = all(column.kind == "dropped" for column in schema.columns if column.name not in texts)
        found = partial(Texts.find_texts, data, frame, target, long or texts)
        fits = _before(fits, dict.fromkeys(("rnn", "transformer"), found), bool(long) or only)
    elif schema.target is not None and schema.target.dtype in ("integer", "float"):
        dates, why = find_dates(features, schema.columns)
        what = f"a table {why}"
        if dates is not None:
            number = TableSchema.infer(frame, target, kinds, "regression", str(data)).target
            assert number is not None
            fits = _before(fits, {"rnn": partial(Series.find, data, frame, number, dates)}, schema.task == "regression")
    elif target is not None:
        what = "a table without a column of free text"
    numbers = [column.name for column in schema.columns if column.kind == "number" and column.name not in years]
    if len(numbers) > 1:
        fits |= dict.fromkeys(("autoencoder", "vae"), partial(TableCodes.find, data, frame, target, numbers))
    return what, fits


def _text(data: Path, target: str | None) -> tuple[str, Fits]:
    if target is not None:
        raise ConfigError("--target is for tables; of a text, what comes next is learnt")
    return "a text", dict.fromkeys(("transformer", "rnn"), partial(Language.find, data))


def _before(fits: Fits, others: Fits, first: bool) -> Fits:
    """Both, the others at the front if they come first."""
    return others | fits if first else fits | others


def load_run(run: Path) -> tuple[Any, Work]:
    """The estimator of a run folder (or a model file) and the work it was trained for.

    Raises:
        FileError: if there is none, or it was not trained from the command line.
    """
    path = run / "model.safetensors" if run.is_dir() else run
    if not path.is_file():
        raise FileError(f"{run}: there is no model in it (expected a run folder of lamina train, or a model file)")
    estimator = families.load(path)
    work = work_of(estimator)
    if work is None:
        raise FileError(f"{path}: the model does not say what data it is for; it was not made by lamina train")
    return estimator, work


def work_of(estimator: Any) -> Work | None:
    """The work that an estimator from ``lamina train`` is for; ``None`` if it is from elsewhere."""
    source = getattr(estimator, "source_", {})
    for work in WORKS:
        if source.get("kind") == work.kind:
            try:
                return work.from_dict(source)
            except (KeyError, TypeError, ValueError):
                return None
    return None
