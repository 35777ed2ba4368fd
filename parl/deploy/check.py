"""Whether an artefact is as it was written, and acts as it did. JAX is loaded by stablehlo only."""

from pathlib import Path
from typing import Any

from parl.core.errors import ArtefactError, MissingPackage
from parl.deploy import contract as contracts
from parl.deploy import parity, samples
from parl.deploy.backends import BACKENDS, FILES, Backend
from parl.deploy.contract import Contract


def check(path: str | Path) -> tuple[list[str], list[str]]:
    """(what was found good, what is wrong) with an artefact, a sentence each.

    Its hashes are verified, then its samples go through every form that can be run here. Raises
    ArtefactError where there is no artefact.
    """
    try:
        found = contracts.read(path)
    except ArtefactError as error:
        if not (Path(path) / contracts.CONTRACT).is_file():
            raise
        return [], [str(error)]
    wrong = damaged(found)
    if wrong:
        return [], wrong
    good = [f"{len(found.files) + 1} files are as they were written."]
    program = found.programs["greedy"]
    case = samples.read(found.path, program)
    for form, file in FILES.items():
        if file not in found.files:
            continue
        try:
            backend = BACKENDS[form](found.path)
        except MissingPackage as error:
            good.append(f"{form}: not run: {error}")
            continue
        summed, failures = compared(form, backend, case, found)
        wrong += failures
        if not failures:
            good.append(f"{form}: {summed['observations']} samples as when it was written.")
    return good, wrong


def compared(
    form: str, backend: Backend, case: parity.Case, found: Contract
) -> tuple[dict[str, Any], list[str]]:
    """(numbers of the differences, sentences) of a form on the samples of its artefact."""
    outputs = parity.expected(backend, case.rows, found.start).outputs
    chosen = {name: outputs[name] for name in found.programs["greedy"].outputs}
    return parity.summarized(form, case.name, chosen, case)


def damaged(found: Contract) -> list[str]:
    """The files of an artefact that are not as they were written, a sentence each."""
    wrong = []
    for name, digest in found.files.items():
        if Path(name).name != name:
            raise ArtefactError(f"{found.path} names the file {name!r:.80}, which is not its own.")
        try:
            if contracts.digest((found.path / name).read_bytes()) != digest:
                wrong.append(f"{name} is damaged: its sha256 is another one.")
        except OSError as error:
            wrong.append(f"{name} cannot be read: {error.strerror}.")
    return wrong
