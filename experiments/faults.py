"""Runs every situation of experiments/fault_cases/, each in a process of its own.

python experiments/faults.py                 # all of them; exit code 1 if one fails
python experiments/faults.py --fast          # without the slow ones
python experiments/faults.py F01 8a          # these
python experiments/faults.py --list
"""

import argparse
import contextlib
import importlib
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time

import fault_cases
from fault_cases import CASES, Case


def load_cases() -> dict[str, Case]:
    """The cases of every file, by name."""
    for module in pkgutil.iter_modules(fault_cases.__path__):
        importlib.import_module(f"fault_cases.{module.name}")
    return CASES


def run(case: Case) -> str:
    """An empty string where the case passes, else the last lines of what it said."""
    with tempfile.TemporaryDirectory(prefix="parl-fault-") as folder:
        command = [sys.executable, os.path.abspath(__file__), "--one", case.name]
        said = os.path.join(folder, "said.txt")
        with open(said, "w") as log:
            process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )
            try:
                code = process.wait(case.seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # whatever it left running
                process.wait()
        if code == 0:
            return ""
        with open(said) as log:
            tail = "".join(log.readlines()[-12:])
        return f"no end after {case.seconds:.0f} s\n{tail}" if code is None else tail


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--fast", action="store_true", help="leave out the slow ones")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = load_cases()
    if options.one:
        cases[options.one].check()
        return 0
    if unknown := set(options.names) - cases.keys():
        parser.error(f"no case is called {', '.join(sorted(unknown))}")
    chosen = [cases[name] for name in options.names] or [
        case for case in cases.values() if not (options.fast and case.slow)
    ]
    if options.list:
        for case in chosen:
            print(f"{case.name:16} {(case.check.__doc__ or '').splitlines()[0]}")
        return 0
    failed = []
    for case in chosen:
        begin = time.perf_counter()
        wrong = run(case)
        state = "FAILED" if wrong else "passed"
        print(f"{state}  {case.name:16} {time.perf_counter() - begin:6.1f} s", flush=True)
        if wrong:
            failed.append(case.name)
            print("    " + wrong.replace("\n", "\n    "), flush=True)
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
