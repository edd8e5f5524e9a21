"""Texts: a language model learns to go on with one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lamina.cli.work.base import TEST_SPLIT, Examples, Result, Work
from lamina.core.errors import DataError
from lamina.families.tokenizer import read_texts

NETWORKS = {"transformer": "a transformer", "rnn": "a recurrent network (RNN)"}


@dataclass(kw_only=True)
class Language(Work):
    """A text, and what may follow."""

    kind = "text"
    unit = "characters"
    does = "goes on with a text"
    use = "generate RUN"
    estimators: ClassVar[Mapping[str, str]] = {"transformer": "TransformerLanguageModel", "rnn": "RNNLanguageModel"}
    least_steps = 500

    @classmethod
    def find(cls, data: Path, family: str) -> tuple["Language", Examples]:
        """What the file holds."""
        text = read_texts(data)[0]
        different = len(set(text))
        reason = (
            f"{len(text):,} characters of text, {different} different ones: {NETWORKS[family]} that goes on writing"
        )
        return cls(family=family, reason=reason), Examples(text)

    def split(self, examples: Examples, share: float | None, seed: int) -> tuple[Examples, Examples | None]:
        """The beginning and the end of the text."""
        cut = int(len(examples) * (1 - (TEST_SPLIT if share is None else share)))
        if not 0 < cut < len(examples) - 1:
            raise DataError(f"a text of {len(examples)} characters is too short to train on a part and test on another")
        return Examples(examples.x[:cut]), Examples(examples.x[cut:])

    def in_a_step(self, estimator: Any) -> int:
        return int(estimator.batch_size * (estimator.context if self.family == "transformer" else estimator.length))

    def read(self, data: Path, estimator: Any, answers: bool = True) -> Examples:
        text = read_texts(data)[0]
        if len(text) < 2:
            raise DataError(f"{data}: a text of at least 2 characters is needed")
        return Examples(text)

    def examine(self, estimator: Any, examples: Examples) -> Result:
        loss = -estimator.score(examples.x)
        return Result({"loss": loss, "perplexity": float(np.exp(loss))})

    def draw(self, folder: Path, estimator: Any, unseen: Examples | None, result: Result | None) -> list[str]:
        written = "".join(self.write(estimator, length=500, temperature=0.8, seed=0))
        (folder / "sample.txt").write_text(written, encoding="utf-8")
        return ["sample.txt"]

    def write(self, estimator: Any, **wishes: Any) -> Iterator[str]:
        arguments = {"length": "max_tokens", "seed": "random_state"}
        settings = {arguments.get(name, name): value for name, value in wishes.items()}
        return iter(estimator.generate(**settings, stream=True))
