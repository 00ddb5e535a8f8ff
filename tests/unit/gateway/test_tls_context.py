"""Certificates and keys: those that make a context, and why the others do not."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from gateway.settings import Settings, SettingsError


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem, key.pem, locked.pem (the same key, password `sesame`), other.pem."""
    folder = tmp_path_factory.mktemp("pems")
    commands = (
        "ecparam -genkey -name prime256v1 -noout -out key.pem",
        "req -x509 -new -key key.pem -days 2 -subj /CN=localhost -out cert.pem",
        "ec -in key.pem -aes256 -passout pass:sesame -out locked.pem",
        "ecparam -genkey -name prime256v1 -noout -out other.pem",
    )
    for command in commands:
        try:
            subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("needs the openssl command")
    return folder


def tls(folder: Path, certfile: str, keyfile: str, password: str | None = None) -> Settings:
    return Settings(certfile=folder / certfile, keyfile=folder / keyfile, keyfile_password=password)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert Settings().ssl_context() is None


@pytest.mark.parametrize(("keyfile", "password"), [("key.pem", None), ("locked.pem", "sesame"), ("key.pem", "any")])
def test_a_certificate_and_its_key_make_a_server_context(pems: Path, keyfile: str, password: str | None) -> None:
    context = tls(pems, "cert.pem", keyfile, password).ssl_context()
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("certfile", "keyfile", "password", "message"),
    [
        (
            "none.pem",
            "gone.pem",
            None,
            "certfile: cannot read .*none.pem: No such file or directory\nkeyfile: cannot",
        ),
        (
            "cert.pem",
            "other.pem",
            None,
            "keyfile: .*other.pem is not the key of the certificate in .*cert.pem",
        ),
        ("cert.pem", "cert.pem", None, "keyfile: .*cert.pem holds no private key in PEM form"),
        ("key.pem", "key.pem", None, "certfile: .*key.pem holds no certificate in PEM form"),
        ("cert.pem", "locked.pem", None, "keyfile: .*locked.pem is encrypted; set keyfile_password"),
        ("cert.pem", "locked.pem", "wrong", "keyfile_password: does not open .*locked.pem"),
        ("cert.pem", "locked.pem", "long" * 999, "keyfile_password: does not open .*locked.pem"),
    ],
)
def test_files_of_no_use_are_named_with_the_reason(
    pems: Path, certfile: str, keyfile: str, password: str | None, message: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{message}") as caught:
        tls(pems, certfile, keyfile, password).ssl_context()
    assert password is None or password not in str(caught.value)
