"""The demo of the README: real handwriting, from PNG files to a trained network, by the command line alone.

Writes scikit-learn's 1,797 handwritten digits as pictures in a folder per class, and runs ``lamina train``,
``evaluate`` and ``predict`` on them. Everything is left in ``demo/``.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path("demo")


def lamina(*arguments: str) -> None:
    print(f"\n$ lamina {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "lamina.cli", *arguments], check=True)


def main() -> None:
    from sklearn.datasets import load_digits

    from lamina.data.pictures import write_pictures

    started = time.perf_counter()
    shutil.rmtree(HERE, ignore_errors=True)
    digits = load_digits()
    pictures = np.round(digits.images * 255 / 16).astype("uint8")
    paths = write_pictures(HERE / "digits", pictures, digits.target, [str(name) for name in digits.target_names])
    print(f"{HERE}/digits: {len(paths):,} handwritten digits of 8 x 8 pixels, as PNG files in a folder for each digit")
    lamina("train", f"{HERE}/digits", "--out", f"{HERE}/run")
    lamina("evaluate", f"{HERE}/run", f"{HERE}/digits")
    lamina("predict", f"{HERE}/run", str(paths[0]))
    print(f"\nThe demo took {time.perf_counter() - started:.1f} s. Look at {HERE}/run/examples.png")


if __name__ == "__main__":
    main()
