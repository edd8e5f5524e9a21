"""Row 9: the command ``lamina``, one file per command. Wrong use is one line on standard error and exit status 2."""

import sys

from lamina.core.errors import LaminaError


def main() -> None:
    """Run the command line."""
    import typer

    from lamina.cli import doctor, evaluate, inspect, predict, train

    app = typer.Typer(
        help="Train and use neural networks on tables and pictures.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in (train.train, evaluate.evaluate, predict.predict, inspect.inspect, doctor.doctor):
        app.command()(command)
    try:
        app(standalone_mode=True)
    except LaminaError as error:
        # The lines after the first are about Python code.
        sys.exit(_failed(str(error).splitlines()[0]))
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        print("lamina: stopped", file=sys.stderr)
        sys.exit(130)


def _failed(message: str) -> int:
    print(f"lamina: {message}", file=sys.stderr)
    return 2
