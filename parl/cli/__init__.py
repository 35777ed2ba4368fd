"""The command line; `main` is the entry point of the command parl."""

from parl.cli.main import main as main
