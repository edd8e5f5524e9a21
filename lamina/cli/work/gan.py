"""Pictures to draw new ones like them, by class where there is a folder for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lamina import report
from lamina.cli.work.base import Examples, Result, Work
from lamina.cli.work.classes import some
from lamina.cli.work.pictures import kind_of, read_as
from lamina.core.errors import ConfigError

#: how many epochs are shown
SHOWN = 10


@dataclass(kw_only=True)
class Drawing(Work):
    """Pictures, and more of their kind. There is no test: nothing says how a new picture should be."""

    kind = "drawing"
    unit = "pictures"
    does = "draws pictures"
    use = "generate RUN"
    estimators: ClassVar[Mapping[str, str]] = {"gan": "GAN"}
    least_steps = 4000

    @classmethod
    def find(cls, data: Path, family: str) -> tuple["Drawing", Examples]:
        """What the folder holds."""
        examples = read_as(data)
        classes = "" if examples.y is None else f" in {len(set(examples.y))} folders"
        by_class = "" if examples.y is None else ", of the class asked for"
        reason = (
            f"{len(examples):,} {kind_of(examples.x.shape[1:])}{classes}: a generative adversarial network (GAN) that draws "
            f"new ones{by_class}"
        )
        return cls(family=family, reason=reason), examples

    def split(self, examples: Examples, share: float | None, seed: int) -> tuple[Examples, Examples | None]:
        """All pictures are learnt from."""
        if share is not None:
            raise ConfigError(
                "--test-split is not for --family gan: nothing is tested, and all pictures are learnt from"
            )
        return examples, None

    def about(self, estimator: Any) -> list[str]:
        names = _names(estimator)
        return [f"Draws {kind_of(estimator.shape_)}" + (f": {some(names)}" if names else "")]

    def draw(self, folder: Path, estimator: Any, unseen: Examples | None, result: Result | None) -> list[str]:
        samples, names = estimator.samples_, _names(estimator)
        epochs = np.unique(np.linspace(0, len(samples) - 1, min(SHOWN, len(samples))).round().astype(int))
        titles = [names[i % len(names)] for i in range(samples.shape[1])] if names else ()
        report.picture_rows(samples[epochs], [f"epoch {epoch + 1}" for epoch in epochs], folder / "samples.png", titles)
        return ["samples.png"]

    def read(self, data: Path, estimator: Any, answers: bool = True) -> Examples:
        raise self.refusal("evaluate")

    def sample(self, estimator: Any, **wishes: Any) -> tuple[np.ndarray, list[str]]:
        count, wanted, names = wishes["count"], wishes.get("class"), _names(estimator)
        if wanted is not None and not names:
            raise ConfigError("--class is for a GAN that was trained on a folder with a folder for each class")
        drawn = estimator.set_params(random_state=wishes["seed"]).sample(count, wanted)
        return drawn, [wanted or names[i % len(names)] for i in range(count)] if names else []


def _names(estimator: Any) -> list[str]:
    """The classes that it can draw."""
    return [str(name) for name in getattr(estimator, "classes_", ())]
