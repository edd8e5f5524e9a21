"""What ``import lamina`` takes beyond ``import jax``: each in a fresh process, in turn, medians of several."""

import statistics
import subprocess
import sys

REPEATS = 9
TIMED = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module: str) -> float:
    result = subprocess.run([sys.executable, "-c", TIMED.format(module)], check=True, capture_output=True, text=True)
    return float(result.stdout)


times: dict[str, list[float]] = {"jax": [], "lamina": []}
for _ in range(REPEATS):
    for module in times:
        times[module].append(seconds(module))
median = {module: statistics.median(values) for module, values in times.items()}
print(f"import jax {median['jax']:.2f} s, import lamina {median['lamina']:.2f} s", end=": ")
print(f"{median['lamina'] - median['jax']:+.2f} s")
