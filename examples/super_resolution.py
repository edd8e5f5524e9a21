"""Photographs enlarged 2 and 4 times, against bicubic interpolation.

The network learns from photographs that it shrinks itself: what does a corner, a hair, a leaf look like in full? It is
tested on other photographs. Peak signal-to-noise ratio (PSNR) in decibels counts errors pixel by pixel; structural
similarity (SSIM, 1 at best) compares contrasts and patterns.

Needs scikit-image, for its photographs and SSIM:  pip install scikit-image
"""

import time

import numpy as np
from PIL import Image
from skimage import data
from skimage.metrics import structural_similarity

from lamina.families.super_resolution import SuperResolution, psnr, shrunk, trimmed

seed, epochs = 0, 20
LEARN = ["brick", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "retina"]
TEST = ["astronaut", "camera", "chelsea", "rocket"]


def photograph(name):
    picture = getattr(data, name)()
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)


def bicubic(picture, scale):
    size = (picture.shape[1] * scale, picture.shape[0] * scale)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


learn = [photograph(name) for name in LEARN] + [data.stereo_motorcycle()[0]]
print("scale  photograph   bicubic: PSNR    SSIM   network: PSNR    SSIM")
for scale in (2, 4):
    started = time.perf_counter()
    model = SuperResolution(scale, epochs=epochs, random_state=seed, verbose=0).fit(learn)
    seconds = time.perf_counter() - started
    rows = []
    for name in TEST:
        picture = trimmed(photograph(name), scale)
        small = shrunk(picture, scale)
        row = []
        for again in (bicubic(small, scale), model.upscale(small)):
            row += [psnr(picture, again), structural_similarity(picture, again, channel_axis=-1)]
        rows.append(row)
    for name, row in zip([*TEST, "mean"], [*rows, np.mean(rows, axis=0)], strict=True):
        print(f"{scale:5}  {name:10}  {row[0]:14.2f}  {row[1]:6.4f}  {row[2]:14.2f}  {row[3]:6.4f}")
    print(f"trained in {seconds:.0f} s; {model.model.count_params():,} weights", flush=True)
