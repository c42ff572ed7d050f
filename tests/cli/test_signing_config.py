"""`[signing]`: a key that is missing, foreign, readable by others or on a volume is named before anything is signed with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder.__main__ import main
from storage.volume import Volume

PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site with a volume and a key."""
    (tmp_path / "volume").mkdir()
    Volume.init(tmp_path / "volume", on_root=True).close()
    key = tmp_path / "key.pem"
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(*PEM))
    key.chmod(0o600)
    return tmp_path


def checked(folder: Path, capsys: pytest.CaptureFixture[str], signing: str = 'key = "key.pem"', volume: str = "on_root = true") -> str:
    """What `config check` says on stderr; nothing if all is well."""
    file = folder / "site.toml"
    file.write_text(f'name = "Test"\nstate_dir = "state"\n[signing]\n{signing}\n[[volume]]\npath = "volume"\n{volume}\n')
    code = main(["config", "check", "--config", str(file)])
    said = capsys.readouterr()
    assert (code == 0) == (said.err == "")
    assert code in (0, 3)
    assert said.err.count("\n") <= 1
    return said.err


def test_a_key_of_our_own_is_good(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(folder, capsys) == ""
    assert checked(folder, capsys, 'key = "key.pem"\nheads = "elsewhere/heads"\nevery_h = 12') == ""


def move(folder: Path, to: str) -> None:
    (folder / "key.pem").rename(folder / to)


def link(folder: Path) -> None:
    move(folder, "volume/key.pem")
    (folder / "key.pem").symlink_to("volume/key.pem")


def foreign(folder: Path) -> None:
    (folder / "key.pem").write_bytes(generate_private_key(SECP256R1()).private_bytes(*PEM))


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing": (lambda f: (f / "key.pem").unlink(), 'key = "key.pem"', "is missing; make one with: openssl genpkey"),
    "readable by others": (lambda f: (f / "key.pem").chmod(0o640), 'key = "key.pem"', "can be read by others (mode 0640); run: chmod 600"),
    "on the volume": (lambda f: move(f, "volume/key.pem"), 'key = "volume/key.pem"', "lies on the volume"),
    "on the volume by a link": (link, 'key = "key.pem"', "lies on the volume"),
    "of another kind": (foreign, 'key = "key.pem"', "holds no such Ed25519 key"),
    "text": (lambda f: (f / "key.pem").write_text("key"), 'key = "key.pem"', "holds no such Ed25519 key"),
    "heads on the volume": (lambda f: None, 'key = "key.pem"\nheads = "volume/heads/deep"', "signing.heads"),
    "no key named": (lambda f: None, "every_h = 1", "signing.key: is missing"),
    "too often": (lambda f: None, 'key = "key.pem"\nevery_h = 0', "signing.every_h: must be from"),
    "a key that is none": (lambda f: None, 'key = "key.pem"\ndaily = true', "signing.daily: no such key"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_with_the_remedy(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    break_it, signing, what = WRONG[name]
    break_it(folder)
    line = checked(folder, capsys, signing)
    assert what in line
    assert "; " in line


def test_the_volumes_file_system_is_no_place_either(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A volume has a file system of its own: what lies on it lies with the footage, whatever its path."""
    assert "lies on the file system of the volume" in checked(folder, capsys, volume="")
