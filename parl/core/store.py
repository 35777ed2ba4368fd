"""Files in object stores and other places named by URIs, such as s3://bucket/runs/cheetah.

fsspec reads and writes them; each kind of store needs a package of its own. Credentials come from
the environment alone, and error messages hold none.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from parl.core.errors import ConfigError, MissingPackage, StoreError

URI = re.compile(r"([a-z][a-z0-9+]+):/+(.+)", re.DOTALL)  # a Path makes one slash of two
PART = 1 << 23  # bytes that are read or sent at a time
PACKAGES = {
    "s3": "pip install 'parl-jax[cloud]'",
    "s3a": "pip install 'parl-jax[cloud]'",
    "gs": "pip install gcsfs",
    "gcs": "pip install gcsfs",
    "hf": "pip install huggingface_hub",
    "az": "pip install adlfs",
    "abfs": "pip install adlfs",
}
KEYS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, away from AWS, AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "HF_TOKEN",
}
READ_SECONDS = 30  # without a byte after which a store counts as silent
SLOWEST = 1 << 16  # bytes a second that a store takes at least
# what a store is told so that one that does not answer is known as such within seconds
PATIENCE: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": READ_SECONDS,
            "retries": {"total_max_attempts": 1},
        }
    },
    "file": {"auto_mkdir": True},
}
REFUSALS = "Credential", "AccessDenied", "Forbidden", "Unauthorized", "Signature", "AccessKey"


def uri_of(name: Any) -> str:
    """The URI that a name or path is; empty for a path of this machine."""
    match = URI.fullmatch(str(name)) if isinstance(name, str | Path) else None
    if match is None:
        return ""
    scheme, rest = match.groups()
    if scheme == "file":
        rest = "/" + rest.lstrip("/")
    return f"{scheme}://{rest.rstrip('/')}"


def place_of(name: str | Path) -> str:
    """A name as it means the same from every directory: a URI as it is, a path resolved."""
    return uri_of(name) or str(Path(name).resolve())


def refuse_uri(name: Any, what: str) -> None:
    """Raises ConfigError where a path of this machine is needed and a URI is given."""
    if uri := uri_of(name):
        raise ConfigError(
            f"{what} takes a path of this machine, not {uri}: only 'parl train' and 'parl hub' "
            "write to a store."
        )


class Store:
    """Files under one URI, by their names relative to it.

    Raises ConfigError for an unknown or improper URI, MissingPackage, and StoreError where the
    store cannot be reached, refuses or fails.
    """

    def __init__(self, uri: str):
        self.uri, self.scheme = uri, uri.partition("://")[0]
        if re.match(r"[^:]+://[^/@]*:[^/@]*@", uri):
            raise ConfigError(
                f"{self.scheme}:// URIs hold no credentials here: set "
                f"{KEYS.get(self.scheme, 'them')} in the environment."
            )
        try:
            from fsspec.core import url_to_fs  # only now: an extra
        except ImportError as error:
            raise MissingPackage(f"{uri} needs fsspec: {PACKAGES['s3']}") from error
        options = PATIENCE.get(self.scheme, {})
        with self.speaking():
            try:
                fresh = {"use_listings_cache": False, "skip_instance_cache": True}
                self.files, self.root = url_to_fs(uri, **fresh, **options)
            except ImportError as error:
                cure = PACKAGES.get(self.scheme, "")
                raise MissingPackage(
                    f"{self.scheme}:// needs a package: {cure or str(error)}"
                ) from error
            except ValueError as error:
                raise ConfigError(
                    f"{uri} is of no known kind of store; there are s3://, gs://, hf:// and "
                    "file://."
                ) from error
        if hasattr(self.files, "retries"):
            self.files.retries = 1  # s3fs and gcsfs try five times; who asks here decides that
        self.root = str(self.root).rstrip("/")

    def path(self, name: str) -> str:
        """The path of a file, as fsspec takes it."""
        return f"{self.root}/{name}"

    def at(self, name: str) -> str:
        """The URI of a file."""
        return f"{self.uri}/{name}"

    @contextlib.contextmanager
    def speaking(self) -> Iterator[None]:
        """Turns whatever a store raises into a StoreError of one sentence without secrets."""
        try:
            yield
        except (StoreError, ConfigError, MissingPackage):
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            text = re.sub(r"(://)[^/@\s]+@", r"\1", re.sub(r"\?\S+", "", lines[0]))[:300]
            told = f"{type(error).__name__}: {text}"
            odd = isinstance(error, PermissionError) or any(x in told for x in REFUSALS)
            if odd and self.scheme != "file":
                keys = KEYS.get(self.scheme, "its own variables")
                raise StoreError(
                    f"{self.uri} refuses this machine's credentials ({told}): set {keys} in the "
                    "environment."
                ) from error
            raise StoreError(f"{self.uri} cannot be used ({told}).") from error

    def names(self) -> dict[str, int]:
        """Sizes in bytes of all files, by name; empty where there is nothing."""
        with self.speaking():
            try:
                found = self.files.find(self.root, detail=True)
            except FileNotFoundError:
                return {}
            start = self.root.strip("/") + "/"
            sizes = {name.lstrip("/"): int(x.get("size") or 0) for name, x in found.items()}
            return {
                name.removeprefix(start): size
                for name, size in sizes.items()
                if name.startswith(start) and is_inside(name.removeprefix(start))
            }

    def get(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        with self.speaking():
            try:
                return self.files.cat_file(self.path(name))
            except FileNotFoundError:
                return None

    def get_file(self, name: str, path: Path) -> bool:
        """Copies a file to a new one at `path`; False where there is none."""
        with self.speaking():
            try:
                with self.files.open(self.path(name), "rb") as source, path.open("wb") as file:
                    while part := source.read(PART):
                        file.write(part)
                return True
            except FileNotFoundError:
                path.unlink(missing_ok=True)
                return False

    def put(self, name: str, data: bytes) -> None:
        """Writes a file; readers see the old content or the new."""
        with self.speaking():
            self.written(name, lambda path: self.pipe(path, data))

    def put_file(self, name: str, file: BinaryIO, sent: Callable[[], None]) -> None:
        """Writes a file from an open one and calls `sent` after each part."""

        def copy(path: str) -> None:
            with self.files.open(path, "wb") as out:
                while part := file.read(PART):
                    out.write(part)
                    sent()

        with self.speaking():
            self.written(name, copy)

    def written(self, name: str, write: Callable[[str], None]) -> None:
        """Writes a file by `write`; in a file system under another name first, then renamed.

        Object stores show a file when it is complete.
        """
        path = self.path(name)
        if self.scheme != "file":
            write(path)
            return
        folder, _, last = path.rpartition("/")
        temporary = f"{folder}/.writing-{last}-{os.getpid()}"
        try:
            write(temporary)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file where there is none; False where there is one.

        One of several writers succeeds on S3 (a conditional put) and in file systems; elsewhere
        two at the same moment may.
        """
        with self.speaking():
            try:
                if self.scheme == "file":
                    os.makedirs(self.root, exist_ok=True)
                    with open(self.path(name), "xb") as file:
                        file.write(data)
                else:
                    self.pipe(self.path(name), data, mode="create")
            except FileExistsError:
                return False
            except Exception as error:
                if "PreconditionFailed" in f"{error!r}{error.__cause__!r}" or "412" in str(error):
                    return False
                raise
            return True

    def pipe(self, path: str, data: bytes, **options: Any) -> None:
        """Writes a whole file. Raises StoreError where the store takes too long to answer.

        The timeouts that stores are told do not cover the wait for leave to send.
        """
        if not getattr(self.files, "async_impl", False):
            return self.files.pipe_file(path, data, **options)
        seconds = READ_SECONDS + len(data) / SLOWEST
        try:
            self.files.pipe_file(path, data, timeout=seconds, **options)
        except TimeoutError as error:
            raise StoreError(f"{self.uri} gives no answer for {seconds:.0f} s.") from error

    def remove(self, names: Iterable[str]) -> None:
        """Removes files, one after the other; those that are not there are passed over."""
        for name in names:
            with self.speaking(), contextlib.suppress(FileNotFoundError):
                self.files.rm_file(self.path(name))


def is_inside(name: str) -> bool:
    """Whether a name in a store is a finished file's and stays in the directory of its copy."""
    parts = name.split("/")
    return not {"", ".", ".."} & {*parts} and not parts[-1].startswith(".writing-")
