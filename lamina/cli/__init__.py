"""Row 9: the command ``lamina``, one file per command. Wrong use is one line on standard error and exit status 2."""

import sys

from lamina.core.errors import LaminaError


def main() -> None:
    """Run the command line."""
    import typer
    from typer.exceptions import Abort, TyperException

    from lamina.cli import doctor, evaluate, forecast, generate, inspect, predict, reduce, train, upscale

    app = typer.Typer(
        help="Train and use neural networks on tables, series, texts and pictures.",
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    made = (
        *(train.train, evaluate.evaluate, predict.predict, forecast.forecast, reduce.reduce, generate.generate),
        *(upscale.upscale, inspect.inspect, doctor.doctor),
    )
    commands = {command.__name__: command for command in made}
    for command in commands.values():
        app.command()(command)
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except TyperException as error:
        named = [word for word in sys.argv[1:2] if word in commands]
        usage = " ".join(["lamina", *named, "--help"])
        sys.exit(_failed(f"{error.format_message().rstrip('.')} (see: {usage})"))
    except LaminaError as error:
        # The lines after the first are about Python code.
        sys.exit(_failed(str(error).splitlines()[0]))
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_failed(f"{where}{error.strerror or error}"))
    except (KeyboardInterrupt, Abort):
        print("lamina: stopped", file=sys.stderr)
        sys.exit(130)


def _failed(message: str) -> int:
    from lamina.cli.files import plain

    print(f"lamina: {plain(message)}", file=sys.stderr)
    return 2
