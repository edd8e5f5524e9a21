import subprocess
import sys

HEAVY = ("matplotlib", "sklearn", "polars", "pandas", "rich", "typer", "PIL", "scipy", "torch", "jaxtyping")


def test_importing_lamina_imports_nothing_heavy():
    code = f"import lamina, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
