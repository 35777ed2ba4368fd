"""The command line: `main` is what the command parl calls."""

from parl.cli.main import main as main
