"""Ray's token is its owner's alone, whoever makes it first."""

import os
import stat

import pytest

from parl.core.errors import ConfigError
from parl.remote.token import protect_token, token_path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_a_new_token_is_private_whatever_the_umask(umask, home, capsys):
    before = os.umask(umask)
    try:
        protect_token(make=True)
    finally:
        os.umask(before)
    assert token_path() == home / ".ray" / "auth_token"
    assert mode(token_path()) == 0o600
    assert mode(home / ".ray") & 0o077 == 0
    secret = token_path().read_text()
    assert len(secret) == 64 and int(secret, 16)
    protect_token(make=True)
    assert token_path().read_text() == secret
    assert os.listdir(home / ".ray") == ["auth_token"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wide", [0o644, 0o640, 0o622, 0o666])
def test_one_that_others_can_read_or_write_is_mended_and_that_is_said(wide, capsys):
    protect_token(make=True)
    os.chmod(token_path(), wide)
    protect_token(make=False)
    assert mode(token_path()) == 0o600
    assert capsys.readouterr().err == (
        f"parl: other users of this machine could read Ray's token in {token_path()}; they no "
        "longer can. If one may have, remove the token while no cluster runs, and a new one is "
        "made.\n"
    )


def test_a_folder_that_others_can_write_is_mended(home, capsys):
    protect_token(make=True)
    os.chmod(home / ".ray", 0o777)
    protect_token(make=False)
    assert mode(home / ".ray") == 0o755
    assert "could replace Ray's token in" in capsys.readouterr().err


def test_links_and_files_of_others_are_refused(home, monkeypatch):
    (home / ".ray").mkdir()
    (home / "secret").write_text("a" * 64)
    token_path().symlink_to(home / "secret")
    with pytest.raises(ConfigError, match="auth_token is a link or no file; remove it, or name"):
        protect_token(make=True)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token_path()))  # where the user says so
    protect_token(make=True)
    assert mode(home / "secret") == 0o600
    if os.getuid() == 0:
        os.chown(home / "secret", 65534, 65534)
        with pytest.raises(ConfigError, match="is not yours but of uid 65534"):
            protect_token(make=True)


def test_what_the_user_says_of_tokens_is_honoured(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "deep" / "token"))
    protect_token(make=False)
    assert not (home / "deep").exists()
    protect_token(make=True)
    assert (mode(home / "deep" / "token"), mode(home / "deep")) == (0o600, 0o700)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    for name, value in (("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "secret")):
        monkeypatch.setenv(name, value)
        protect_token(make=True)
        monkeypatch.delenv(name)
    assert not (home / ".ray").exists()
