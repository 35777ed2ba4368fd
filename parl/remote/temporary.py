"""Ray's temporary directory: this user's alone.

Ray's own, /tmp/ray, is shared by all users of a machine. Whoever starts a cluster there writes its
address where everybody's programs look for one, and whoever comes first owns the directory.
"""

import os
import stat
from pathlib import Path

from parl.core.errors import ConfigError


def temporary() -> str:
    """The directory for sessions of Ray that are started here, readable by this user only.

    /tmp/parl-ray-UID, or that name in RAY_TMPDIR; short, as sockets' paths must be. Raises
    ConfigError where it is another user's or cannot be made.
    """
    place = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / f"parl-ray-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise ConfigError(
                f"{place}, where Ray's files go, is not a directory of yours; set RAY_TMPDIR to "
                "one with a short name."
            )
        if found.st_mode & 0o077:
            place.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"Ray's files cannot go to {place} ({error.strerror}); set RAY_TMPDIR to a directory "
            "of your own with a short name."
        ) from error
    return str(place / "ray")  # Ray opens its directory to everybody
