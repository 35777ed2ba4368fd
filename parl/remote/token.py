"""Ray's token: whoever has it can run code as this user, so it is this user's alone.

Ray itself writes it with the mode that the process' umask leaves, which others can often read.
"""

import os
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path

import ray
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]
from ray.exceptions import RpcError

from parl.core.errors import ConfigError, RemoteError
from parl.remote.conditions import muted

FIRST = (2, 52)  # the first Ray that checks tokens


def supported() -> bool:
    """Whether this Ray checks tokens."""
    return tuple(map(int, ray.__version__.split(".")[:2])) >= FIRST


def token_path() -> Path:
    """Where the token is: RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token."""
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(given).expanduser() if given else Path.home() / ".ray" / "auth_token"


def use_token(address: str) -> None:
    """Turns token authentication on for a cluster on this machine that asks for a token.

    Ray itself does so where the address is "auto", but not where it is given. One that asks for
    none would not understand us.
    """
    with suppress(ImportError, RpcError), muted():  # ImportError: before Ray 2.52
        from ray._private.authentication import authentication_token_setup as setup
        from ray.exceptions import AuthenticationError

        try:
            GcsClient(address=address)
        except AuthenticationError:
            setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def check_token(address: str) -> None:
    """Raises RemoteError where a cluster refuses this user's token; Ray would try for a minute."""
    with suppress(ImportError, RpcError), muted():  # ImportError: before Ray 2.52
        from ray.exceptions import AuthenticationError

        try:
            GcsClient(address=address)
        except AuthenticationError as error:
            raise RemoteError(
                f"the Ray cluster at {address} is another user's, or of another token than the one "
                f"in {token_path()}: copy its token there, or start a cluster of your own with "
                "`parl cluster start`."
            ) from error


def token_authentication() -> bool:
    """Whether Ray checks a token on every call: needs Ray 2.52, the mode and a token."""
    given = bool(os.environ.get("RAY_AUTH_TOKEN")) or token_path().exists()
    return supported() and os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and given


def protect_token(make: bool) -> None:
    """Sees to it that nobody else can read or replace the token; with `make` there is one then.

    Permissions that are too wide are taken back, and that is said. Raises ConfigError where they
    cannot be: the file is a link, or somebody else's. Nothing is done where Ray asks for no token
    or has it from RAY_AUTH_TOKEN.
    """
    mode = os.environ.get("RAY_AUTH_MODE") or "token"
    if not supported() or mode.lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = token_path()
    try:
        if make and not os.path.lexists(path):
            make_token(path)
        if os.path.lexists(path):
            mend_folder(path.parent)
            mend_file(path)
    except OSError as error:
        raise ConfigError(
            f"Ray's token in {path} cannot be kept from others ({error.strerror}); set "
            "RAY_AUTH_TOKEN_PATH to a file of your own."
        ) from error


def make_token(path: Path) -> None:
    """Writes a new token, unless another process is faster."""
    for folder in reversed([path.parent, *path.parent.parents]):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.fchmod(file, 0o600)  # whatever the umask is
        os.write(file, secrets.token_hex(32).encode())
        os.fsync(file)
        with suppress(FileExistsError):  # another process was faster
            os.link(draft, path, follow_symlinks=False)  # complete from its first moment
    except OSError:  # a file system without hard links
        os.rename(draft, path)
    finally:
        os.close(file)
        draft.unlink(missing_ok=True)


def mend_folder(path: Path) -> None:
    """Lets nobody else replace what is in a folder, but where that is as in /tmp."""
    found = os.stat(path)
    if not found.st_mode & stat.S_ISVTX:
        refuse_strangers(path, found, found.st_mode & 0o022)
        narrow(path, found, 0o022, "replace Ray's token in")


def mend_file(path: Path) -> None:
    """Lets nobody else read or write a token."""
    given = "RAY_AUTH_TOKEN_PATH" in os.environ  # what the user names may be a link
    found = os.stat(path) if given else os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(
            f"Ray's token {path} is a link or no file; remove it, or name the file that holds the "
            "token in RAY_AUTH_TOKEN_PATH."
        )
    refuse_strangers(path, found, found.st_mode & 0o077)
    narrow(path, found, 0o077, "read Ray's token in")


def refuse_strangers(path: Path, found: os.stat_result, wide: int) -> None:
    """Raises ConfigError for what is another user's, or root's and open to others."""
    if found.st_uid != os.getuid() and (found.st_uid != 0 or wide):
        raise ConfigError(
            f"{path} is not yours but of uid {found.st_uid}, so Ray's token there is not secret; "
            "set RAY_AUTH_TOKEN_PATH to a file of your own."
        )


def narrow(path: Path, found: os.stat_result, forbidden: int, deed: str) -> None:
    """Takes permissions from others, and says so where they had them."""
    if found.st_mode & forbidden:
        os.chmod(path, stat.S_IMODE(found.st_mode) & ~forbidden)
        print(
            f"parl: other users of this machine could {deed} {path}; they no longer can. If one "
            "may have, remove the token while no cluster runs, and a new one is made.",
            file=sys.stderr,
        )
