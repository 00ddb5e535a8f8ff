"""The TLS context of a listener, made from the files of a certificate and its key."""

from __future__ import annotations

import ssl
from pathlib import Path

from .setting_problems import Problem, SettingsError


def server_context(certfile: Path, keyfile: Path, password: str | None) -> ssl.SSLContext:
    """A context for a server with this certificate chain and key. Reads the files each time.

    Raises: SettingsError when a file is missing or of no use; its problems name the settings.
    """
    problems = []
    for name, path in (("certfile", certfile), ("keyfile", keyfile)):
        try:
            with path.open("rb"):
                pass
        except OSError as exc:
            problems.append(Problem(name, name, f"cannot read {path}: {exc.strerror or exc}"))
    if problems:
        raise SettingsError(problems)
    is_asked = False

    def answer() -> str:
        # Without a callback OpenSSL would ask at the terminal, and a service would hang there.
        nonlocal is_asked
        is_asked = True
        return password or ""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certfile, keyfile, answer)
    except (ssl.SSLError, ValueError) as exc:
        # ValueError: OpenSSL takes no password of more than 1,024 bytes.
        raise SettingsError([_tls_problem(exc, certfile, keyfile, password if is_asked else None, is_asked)]) from None
    return context


def cluster_contexts(certfile: Path, keyfile: Path, cafile: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts for the listening and the connecting side of links between hosts: each shows a certificate.

    Names are not compared: an internal address may have none, and the authorities sign for this cluster alone.
    Raises: SettingsError.
    """
    server = server_context(certfile, keyfile, None)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.check_hostname = False
    try:
        client.load_cert_chain(certfile, keyfile)
        for context in (server, client):
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cafile)
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError([Problem("cluster_cafile", "cluster_cafile", f"cannot use {cafile}: {exc}")]) from None
    return server, client


def _tls_problem(exc: Exception, certfile: Path, keyfile: Path, password: str | None, is_encrypted: bool) -> Problem:
    reason = str(getattr(exc, "reason", None) or exc)
    if reason == "KEY_VALUES_MISMATCH":
        return Problem("keyfile", "keyfile", f"{keyfile} is not the key of the certificate in {certfile}")
    if is_encrypted:
        if password is None:
            return Problem("keyfile", "keyfile", f"{keyfile} is encrypted; set keyfile_password")
        return Problem("keyfile_password", "keyfile_password", f"does not open {keyfile}")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_verify_locations(certfile)
    except ssl.SSLError:
        return Problem("certfile", "certfile", f"{certfile} holds no certificate in PEM form ({reason})")
    return Problem("keyfile", "keyfile", f"{keyfile} holds no private key in PEM form that can be used ({reason})")
