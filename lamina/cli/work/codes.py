"""Autoencoders: rows or pictures become a few numbers, which are drawn as points of a plane."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from lamina import report
from lamina.cli.work.base import Examples, Result, Rows, Work
from lamina.cli.work.classes import some
from lamina.cli.work.pictures import kind_of, read_as
from lamina.core.errors import ConfigError
from lamina.data.tables import TableSchema, check_schema, read_table

if TYPE_CHECKING:
    import polars as pl

#: how many pictures are drawn before and after
SHOWN = 12
NETWORKS = {"autoencoder": "an autoencoder", "vae": "a variational autoencoder (VAE)"}


@dataclass(kw_only=True)
class Codes(Work):
    """What rows and pictures share."""

    use = "reduce RUN DATA"
    estimators: ClassVar[Mapping[str, str]] = {"autoencoder": "Autoencoder", "vae": "VariationalAutoencoder"}
    least_steps = 2500

    def examine(self, estimator: Any, examples: Examples) -> Result:
        """The error after the way through the code and back, and how much of what varies is kept, as PCA counts it."""
        error = float(estimator.anomaly_scores(examples.x).mean())
        spread = float((examples.x / estimator.scale_).var(axis=0).mean())
        kept = 1 - error / spread if spread else float("nan")
        return Result({"mean squared error": error, "share of the variance kept": kept})

    def draw(self, folder: Path, estimator: Any, unseen: Examples | None, result: Result | None) -> list[str]:
        assert unseen is not None
        self._draw_plane(estimator.transform(unseen.x), unseen.y, folder / "plane.png")
        return ["plane.png"]

    def reduce(self, estimator: Any, data: Path, picture: Path) -> Rows:
        examples = self.read(data, estimator, answers=False)
        codes = estimator.transform(examples.x)
        self._draw_plane(codes, examples.y, picture)
        header = [self.unit.removesuffix("s"), *(f"code {i + 1}" for i in range(codes.shape[1]))]
        rows = [[name, *(f"{value:.6g}" for value in code)] for name, code in zip(examples.names, codes, strict=True)]
        if examples.y is not None:
            header.append("class")
            rows = [[*row, str(of_class)] for row, of_class in zip(rows, examples.y, strict=True)]
        return header, rows

    def _draw_plane(self, codes: np.ndarray, classes: np.ndarray | None, path: Path) -> None:
        names = "first number of the code", "second number of the code"
        if codes.shape[1] == 1:
            codes, names = np.hstack([codes, np.zeros_like(codes)]), ("the only number of the code", "")
        elif codes.shape[1] > 2:
            from sklearn.decomposition import PCA

            pca = PCA(2, random_state=0).fit(codes) if len(codes) > 1 else None
            shares = pca.explained_variance_ratio_ if pca else (1.0, 0.0)
            of = f"principal component of the {codes.shape[1]} numbers"
            names = f"first {of} ({shares[0]:.0%} of their variance)", f"second {of} ({shares[1]:.0%})"
            codes = pca.transform(codes) if pca else codes[:, :2]
        report.plane(codes, classes, path, names)


@dataclass(kw_only=True)
class PictureCodes(Codes):
    """Pictures; their classes only color the plane."""

    kind = "picture codes"
    unit = "pictures"
    does = "reduces pictures to a few numbers"

    @classmethod
    def find(cls, data: Path, family: str) -> tuple["PictureCodes", Examples]:
        """What the folder holds."""
        examples = read_as(data)
        folders = "without folders for classes" if examples.y is None else f"in {len(set(examples.y))} folders"
        reason = (
            f"{len(examples):,} {kind_of(examples.x.shape[1:])} {folders}: {NETWORKS[family]} that reduces each to a few "
            "numbers" + (" and draws new ones" if family == "vae" else "")
        )
        return cls(family=family, reason=reason), examples

    def about(self, estimator: Any) -> list[str]:
        return [f"Reduces {kind_of(estimator.shape_)} to {estimator.n_components} numbers"]

    def read(self, data: Path, estimator: Any, answers: bool = True) -> Examples:
        return read_as(data, estimator.shape_)

    def draw(self, folder: Path, estimator: Any, unseen: Examples | None, result: Result | None) -> list[str]:
        left = super().draw(folder, estimator, unseen, result)
        assert unseen is not None
        shown = unseen.x[np.linspace(0, len(unseen) - 1, min(SHOWN, len(unseen))).round().astype(int)]
        both = [shown, estimator.reconstruct(shown)]
        report.picture_rows(both, ["before", "after"], folder / "reconstructions.png")
        left.append("reconstructions.png")
        if self.family == "vae":
            report.picture_grid(estimator.sample(24), (), folder / "samples.png")
            left.append("samples.png")
        return left

    def sample(self, estimator: Any, **wishes: Any) -> tuple[np.ndarray, list[str]]:
        if self.family != "vae":
            raise self.refusal("generate")
        if wishes.get("class") is not None:
            raise ConfigError("--class is for a GAN that was trained on a folder with a folder for each class")
        return estimator.set_params(random_state=wishes["seed"]).sample(wishes["count"]), []


@dataclass(kw_only=True)
class TableCodes(Codes):
    """Rows of numbers; a target with classes only colors the plane.

    Attributes:
        schema: the columns of numbers, and the target if it was named.
        means: what stands for missing values, for each column.
    """

    kind = "table codes"
    unit = "rows"
    does = "reduces rows to a few numbers"

    schema: TableSchema
    means: tuple[float, ...]

    @classmethod
    def find(
        cls, data: Path, frame: "pl.DataFrame", target: str | None, columns: list[str], family: str
    ) -> tuple["TableCodes", Examples]:
        """What the columns of numbers hold."""
        chosen = frame.select([*columns, *([target] if target else [])])
        schema = TableSchema.infer(chosen, target, dict.fromkeys(columns, "number"), name=str(data))
        numbers = check_schema(frame, schema, str(data))
        means = tuple(float(numbers[name].mean()) for name in columns)  # type: ignore[arg-type]
        missing = sum(numbers.null_count().row(0))
        left_out = [name for name in frame.columns if name not in (*columns, target)]
        reason = (
            f"{len(frame):,} rows, {len(columns)} columns of numbers: {NETWORKS[family]} that reduces each row to a few "
            "numbers"
        )
        if missing:
            reason += f"\n  {missing} values are missing; the mean of their column stands for them"
        if left_out:
            reason += f"\n  not numbers, and left out: {some(left_out)}"
        work = cls(family=family, reason=reason, schema=schema, means=means)
        return work, work._examples(frame, data)

    def classes_of(self, examples: Examples) -> np.ndarray | None:
        return None

    def to_dict(self, estimator: Any) -> dict[str, Any]:
        return super().to_dict(estimator) | {"schema": self.schema.to_dict(), "means": list(self.means)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        schema = TableSchema.from_dict(saved["schema"])
        return cls(family=saved["family"], schema=schema, means=tuple(saved["means"]))

    def about(self, estimator: Any) -> list[str]:
        columns = ", ".join(column.name for column in self.schema.columns)
        return [f"For tables: reduces {columns} to {estimator.n_components} numbers"]

    def read(self, data: Path, estimator: Any, answers: bool = True) -> Examples:
        return self._examples(read_table(data), data)

    def _examples(self, frame: "pl.DataFrame", data: Path) -> Examples:
        numbers = check_schema(frame, self.schema, str(data)).to_numpy().astype("float32")
        numbers = np.where(np.isnan(numbers), np.asarray(self.means, "float32"), numbers)
        target, classes = self.schema.target, None
        if target is not None and self.schema.task == "classification" and target.name in frame.columns:
            classes = np.array([str(value) for value in frame[target.name].fill_null("").to_list()])
        return Examples(numbers, classes, [str(i + 1) for i in range(len(frame))])
