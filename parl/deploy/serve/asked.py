"""What a request asks for, whichever protocol it came by."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import nearest
from parl.deploy.serve.limits import Refusal

LONGEST = 128  # letters of a session's name


class Asked(NamedTuple):
    """A request for actions."""

    obs: Any  # as the environment shows it; in KServe's protocol its parts by their names
    info: Any = None
    session: str | None = None
    first: Any = False  # an episode opens: True, or a list of B
    end: bool = False  # forget the session behind this step
    seed: int | None = None


class Inputs(NamedTuple):
    """Observations as networks see them."""

    arrays: dict[str, np.ndarray]  # [B, ...] by name
    rows: int  # B
    single: bool  # one observation was given, without a batch
    outputs: dict[str, bool] | None = None  # asked for by name, and whether in binary


def refuse_constant(name: str) -> Any:
    """For NaN and Infinity, which json would read."""
    raise ValueError(f"{name} is no number in JSON")


DECODER = json.JSONDecoder(parse_constant=refuse_constant)


def decoded(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises Refusal where there is none."""
    try:
        values = DECODER.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON: {str(error)[:200]}.") from None
    if not isinstance(values, dict):
        raise Refusal(400, "the body is no JSON object.")
    return values


def check_keys(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Raises Refusal for a key that is not known."""
    for key in values:
        if key not in known:
            hint = nearest(key, known)
            raise Refusal(
                422, f"{where} has no '{key[:40]}'.{hint} It may have {', '.join(known)}."
            )


def session_name(value: Any) -> str | None:
    """The name of a session, a text or a number; None where there is none."""
    if value is None:
        return None
    number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64
    if not (number or isinstance(value, str)) or not 0 < len(str(value)) <= LONGEST:
        raise Refusal(422, f"a session's name is a text of 1 to {LONGEST} letters, or a number.")
    return str(value)


def flag(value: Any, name: str) -> bool:
    """A switch. Raises Refusal for anything else."""
    if not isinstance(value, bool):
        raise Refusal(422, f"'{name}' is true or false.")
    return value


def openings(value: Any) -> Any:
    """Whether an episode opens, or where: True, False, or a list of these."""
    if isinstance(value, list) and value and all(isinstance(each, bool) for each in value):
        return value
    return flag(value, "first")
