"""Noise taken away: clothes of Fashion-MNIST and photographs, against median filter and non-local means.

Gaussian noise with a standard deviation of 25 (of 255) is added to pictures, and a U-Net learns to give back what was
there. It learns from other pictures than it is tested on. The filters get the same pictures; non-local means is even told
how strong the noise is, and the size of the median filter is the best for the test pictures.

Needs scikit-image for the photographs and the filters:  pip install scikit-image
"""

import time

import numpy as np
from skimage import color, data
from skimage.filters import median
from skimage.restoration import denoise_nl_means

import lamina as lm
from lamina.families.translator import ImageTranslator, psnr

SEED, NOISE = 0, 25
TRAIN = ["astronaut", "coins", "chelsea", "rocket", "brick", "grass", "text", "page", "clock", "immunohistochemistry"]
TEST = ["camera", "coffee", "moon", "gravel"]


def noisy(pictures, seed):
    rng = np.random.default_rng(seed)
    return [np.clip(p + rng.normal(0, NOISE, p.shape), 0, 255).astype("uint8") for p in pictures]


def photograph(name):
    """A photograph in gray, every second pixel."""
    picture = getattr(data, name)()
    gray = (255 * color.rgb2gray(picture)).astype("uint8") if picture.ndim == 3 else picture
    return gray[::2, ::2]


def positions(picture):
    """The picture turned and mirrored: few photographs are soon known by heart, in one position with one noise."""
    return [np.rot90(seen, turns) for seen in (picture, picture[:, ::-1]) for turns in range(4)]


def means(picture):
    return denoise_nl_means(
        picture.astype("float32"), patch_size=5, patch_distance=6, h=0.8 * NOISE, sigma=NOISE, fast_mode=True
    )


def compare(title, train, test, **settings):
    damaged, seen = noisy(train, SEED), noisy(test, SEED + 1)
    started = time.perf_counter()
    network = ImageTranslator(random_state=SEED, verbose=2, **settings).fit(damaged, train)
    seconds = time.perf_counter() - started
    print(f"\n{title}: {len(train):,} pictures to learn from, {len(test):,} to test on; seed {SEED}, {seconds:.0f} s")

    def mean(restore):
        return np.mean([psnr(true, restore(picture)) for true, picture in zip(test, seen, strict=True)])

    print("                      PSNR, dB")
    print(f"as they are            {mean(lambda p: p):.2f}")
    print(f"median filter          {max(mean(lambda p, k=k: median(p, np.ones((k, k)))) for k in (3, 5)):.2f}")
    print(f"non-local means        {mean(means):.2f}")
    print(f"ImageTranslator        {network.score(seen, test):.2f}")


(clothes, _), (others, _) = lm.datasets.fashion_mnist.load_data()
compare("Fashion-MNIST", list(clothes[:6000]), list(others[:1000]), width=16, epochs=6)
photographs = [seen for name in TRAIN for seen in positions(photograph(name))]
compare("photographs", photographs, [photograph(name) for name in TEST], width=24, epochs=4, patch=48)
