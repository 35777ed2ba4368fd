"""Asks a policy server for actions: the standard library and NumPy only.

with Client("http://127.0.0.1:8000") as client:
    action = client.act(observation)
    with client.session() as session:  # an episode of a policy with memory
        action = session.act(observation)
"""

import http.client
import itertools
import json
import os
import ssl
import time
import urllib.parse
from typing import Any, Self

import numpy as np

from parl.core.errors import ConfigError, ServingError
from parl.deploy.contract import Leaf
from parl.deploy.policy import action_of, found
from parl.deploy.serve.datatypes import DATATYPES, DTYPES

LENGTH = "Inference-Header-Content-Length"
IDLE = 30.0  # seconds after which a connection is opened anew; servers close theirs later
NAMES = itertools.count()


class Client:
    """A connection to a policy server, for one thread. Tensors travel in binary."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        policy: str | None = None,
        version: str | int | None = None,
        token: str | None = None,
        timeout: float = 30.0,
    ):
        """Without a `policy` the server's only one acts, without a `version` its newest."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r:.80} is no address of a server such as http://HOST:8000.")
        self.url, self.token, self.timeout = url, token, timeout
        self.policy, self.version = policy, version
        self.connection = connection_to(parts, timeout)
        self.root, self.used = parts.path.rstrip("/"), 0.0
        self.known: dict[str, Any] | None = None  # what the server says of the policy

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the next request opens another."""
        self.connection.close()

    def act(
        self,
        obs: Any,
        info: Any = None,
        session: str | None = None,
        first: bool = False,
        end: bool = False,
        seed: int | None = None,
    ) -> Any:
        """What the environment takes, for one observation or a batch, as `Policy.act` gives it.

        A policy with memory needs the name of a `session`, with `first` where its episode opens;
        `end` forgets it behind this step. With a `seed` actions are drawn. Raises ServingError
        with the server's reason.
        """
        told = self.metadata()
        arrays, single = parts_of(told, obs, info)
        more = {"sequence_id": session, "sequence_start": first, "sequence_end": end}
        parameters = {"binary_data_output": True} | (more if session is not None else {})
        if seed is not None:
            parameters["seed"] = seed
        inputs = [
            {
                "name": name,
                "shape": list(x.shape),
                "datatype": DATATYPES[x.dtype.name],
                "parameters": {"binary_data_size": x.nbytes},
            }
            for name, x in arrays.items()
        ]
        head = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
        body = b"".join([head, *(x.tobytes() for x in arrays.values())])
        length = {LENGTH: str(len(head))}
        answer, tail = self.ask("POST", f"{self.path()}/infer", body, length, session is None)
        outputs = tensors(answer, tail)
        return action_of({name: x[0] if single else x for name, x in outputs.items()})

    def session(self, name: str | None = None) -> "Session":
        """An episode, or several side by side, from its start."""
        own = f"{os.getpid()}.{os.urandom(8).hex()}.{next(NAMES)}"
        return Session(self, own if name is None else name)

    def metadata(self) -> dict[str, Any]:
        """What the server says of the policy, in KServe's words."""
        if self.known is None:
            if self.policy is None:
                (self.policy,) = self.only_policy()
            self.known = self.ask("GET", self.path())[0]
        return self.known

    def only_policy(self) -> list[str]:
        """The server's policy. Raises ServingError where it has several."""
        names = self.ask("GET", "/v2")[0].get("models", [])
        if len(names) != 1:
            raise ServingError(
                f"{self.url} serves {', '.join(names) or 'nothing'}: name one, Client(policy=...)."
            )
        return names

    def is_ready(self) -> bool:
        """Whether the server takes requests."""
        try:
            self.ask("GET", "/readyz")
        except ServingError:
            return False
        return True

    def path(self) -> str:
        """Where the policy is."""
        version = "" if self.version is None else f"/versions/{self.version}"
        return f"/v2/models/{urllib.parse.quote(str(self.policy), safe='')}{version}"

    # --- requests -----------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        repeats: bool = True,
    ) -> tuple[dict[str, Any], bytes]:
        """(the JSON of an answer, the bytes behind it). Raises ServingError.

        A request on a connection that turns out to be closed is sent again where that `repeats`
        nothing: not the step of a session, which may have been made.
        """
        if time.monotonic() - self.used > IDLE:
            self.connection.close()
        given = dict(headers or {})
        if self.token is not None:
            given["Authorization"] = f"Bearer {self.token}"
        was_open = self.connection.sock is not None
        try:
            response, data = self.exchange(method, path, body, given, was_open and repeats)
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            raise self.broken(error, repeats) from error
        self.used = time.monotonic()
        return self.read(response, data)

    def exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], again: bool
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """A response and its body; `again` where a connection is closed, once."""
        try:
            self.connection.request(method, self.root + path, body, headers)
            response = self.connection.getresponse()
            return response, response.read()
        except (ConnectionError, http.client.BadStatusLine):
            self.connection.close()
            if not again:
                raise
        return self.exchange(method, path, body, headers, False)

    def broken(self, error: Exception, repeats: bool) -> ServingError:
        """The error for a server that does not answer."""
        if isinstance(error, TimeoutError):
            reason = f"did not answer within {self.timeout:g} s"
        elif isinstance(error, ConnectionRefusedError):
            reason = "is not there: start it with parl serve"
        else:
            reason = f"closed the connection ({type(error).__name__})"
        lost = "" if repeats else "; the session may have stepped, so open it anew with first=True"
        return ServingError(f"the server at {self.url} {reason}{lost}.")

    def read(self, response: http.client.HTTPResponse, data: bytes) -> tuple[dict[str, Any], bytes]:
        """(the JSON of a response, the bytes behind it). Raises ServingError for a refusal."""
        length = response.getheader(LENGTH)
        try:
            size = len(data) if length is None else int(length)
            values = json.loads(data[:size])
            if not isinstance(values, dict):
                raise ValueError("no JSON object")
        except (ValueError, RecursionError) as error:
            raise ServingError(
                f"{self.url} is no policy server: it answers {response.status} with {data[:60]!r}.",
                response.status,
            ) from error
        if response.status != 200:
            reason = str(values.get("error", response.reason))
            raise ServingError(f"{self.url} refuses: {reason}", response.status)
        return values, data[size:]


class Session:
    """Steps of an episode, or of several side by side, which the server remembers."""

    def __init__(self, client: Client, name: str):
        self.client, self.name, self.is_open = client, name, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.reset()

    def act(self, obs: Any, info: Any = None, seed: int | None = None, end: bool = False) -> Any:
        """The next action, as of `Client.act`; `end` where it is the episode's last."""
        first = not self.is_open
        action = self.client.act(obs, info, self.name, first, end, seed)
        self.is_open = not end
        return action

    def reset(self) -> None:
        """The next action opens an episode."""
        self.is_open = False


def connection_to(parts: urllib.parse.SplitResult, timeout: float) -> http.client.HTTPConnection:
    """A connection that opens with its first request."""
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            str(parts.hostname), parts.port, timeout=timeout, context=context
        )
    return http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=timeout)


# --- tensors ----------------------------------------------------------------------------------


def parts_of(told: dict[str, Any], obs: Any, info: Any) -> tuple[dict[str, np.ndarray], bool]:
    """(the parts of an observation [B, ...] by name, whether it was one). Raises ArtefactError."""
    arrays, single = {}, False
    for each in told["inputs"]:
        name, shape = each["name"], tuple(each["shape"][1:])
        leaf = Leaf(name, tuple(each["parameters"]["source"]), "", shape, shape)
        try:
            x = np.ascontiguousarray(found(leaf, obs, info) if leaf.source else obs)
        except ValueError as error:
            raise ConfigError(f"{name} of the observation is no array: {error}.") from error
        if x.dtype.name not in DATATYPES:
            raise ConfigError(f"{name} of the observation is of {x.dtype}, not of numbers.")
        single = is_single(x.shape, shape, tuple(each["parameters"].get("frame", shape)))
        arrays[name] = x[None] if single else x
    return arrays, single


def is_single(shape: tuple[int, ...], own: tuple[int, ...], frame: tuple[int, ...]) -> bool:
    """Whether an array is one observation of the shape `own`, or one frame of it; else a batch."""
    return shape in (own, frame) or (len(shape) == len(own) and shape[1:] != frame)


def tensors(answer: dict[str, Any], tail: bytes) -> dict[str, np.ndarray]:
    """The outputs by name. Raises ServingError where they are not as declared."""
    outputs, start = {}, 0
    try:
        for each in answer["outputs"]:
            dtype, size = DTYPES[each["datatype"]], each["parameters"]["binary_data_size"]
            data = np.frombuffer(tail[start : start + size], dtype)
            outputs[each["name"]] = data.reshape(each["shape"]).copy()
            start += size
    except (KeyError, TypeError, ValueError) as error:
        raise ServingError(f"the server's answer is damaged: {error!r:.100}.") from error
    return outputs
