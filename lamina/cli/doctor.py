"""``lamina doctor``: what Lamina finds on this machine."""

import importlib.metadata
import os
import platform
import time

import typer

from lamina import native
from lamina.core import __version__
from lamina.core.cache import cache_folder


def doctor() -> None:
    """Say what Lamina runs on, and that a network trains and gives the numbers that it should."""
    import jax
    import numpy as np

    import lamina as lm

    rows = {
        "lamina": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "jax": f"{jax.__version__}, on {', '.join(str(device) for device in jax.devices())}",
    }
    for name in ("optax", "numpy", "scikit-learn", "polars", "pillow", "matplotlib", "rich"):
        try:
            rows[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            rows[name] = "missing; install it:  pip install " + name
    rows["kernels"] = native.load().how
    rows["cache"] = str(cache_folder())
    for name, value in rows.items():
        typer.echo(f"{name:<14}{value}")
    x = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
    y = x @ np.arange(8, dtype="float32")
    model = lm.Sequential([lm.Input((8,)), lm.layers.Dense(1)])
    model.compile(lm.optimizers.Adam(0.3), "mean_squared_error")
    started = time.perf_counter()
    loss = model.fit(x, y, epochs=30, verbose=0).history["loss"][-1]
    verdict = "right" if loss < 1e-3 else f"WRONG: the loss of a linear problem is still {loss:.3g}"
    typer.echo(f"{'training':<14}{verdict}, {time.perf_counter() - started:.1f} s")
    if loss >= 1e-3:
        raise typer.Exit(1)
