"""``lamina`` as a person types it, and small data to type it for."""

import contextlib
import io
import sys

import numpy as np
import pytest

from lamina import cli

#: arguments that make networks small
TINY = {
    "fcnn": ("--set", "members=2", "--set", "hidden=[16]"),
    "series": ("--set", "members=1", "--set", "units=4", "--epochs", "2"),
    "texts": ("--set", "units=4", "--set", "embedding=8", "--epochs", "6", "--set", "learning_rate=0.03"),
    "transformer": ("--set", "layers=1", "--set", "width=16", "--set", "heads=2", "--set", "context=16"),
    "codes": ("--set", "hidden=[4,8]", "--epochs", "2"),
    "gan": ("--set", "latent=4", "--set", "filters=4", "--set", "batch_size=16", "--epochs", "12"),
    "upscaling": ("--set", "filters=4", "--set", "blocks=1", "--set", "crops=16", "--epochs", "1"),
}


def lamina(folder, *arguments):
    """Run ``lamina`` in a folder; gives exit status, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["lamina", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
    return left.value.code or 0, out.getvalue(), err.getvalue()


@pytest.fixture
def run(tmp_path):
    """Runs ``lamina`` in an empty folder; gives exit status, output and errors."""
    return lambda *arguments: lamina(tmp_path, *arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One folder for all tests of a file."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def at(place):
    """Runs ``lamina`` in that folder, right: gives the output."""

    def call(*arguments):
        status, out, err = lamina(place, *arguments)
        assert (status, err) == (0, ""), err
        return out

    return call


@pytest.fixture(scope="module")
def wrong(place):
    """Runs ``lamina`` in that folder, wrong: gives the one line of error."""

    def call(*arguments):
        status, out, err = lamina(place, *arguments)
        assert status == 2, out
        assert len(err.strip().splitlines()) == 1, err
        assert "Traceback" not in out + err
        return err.removeprefix("lamina: ").rstrip("\n")

    return call


def shades(count=40, side=8, seed=0):
    """Gray pictures that are dark or light, and which."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return rng.integers(0, 60, (count, side, side)).astype("uint8") + (labels * 150).astype("uint8")[
        :, None, None
    ], labels
