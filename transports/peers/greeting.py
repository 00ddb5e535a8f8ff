"""How two hosts make sure of each other before a link between them carries anything.

::

    listening host                      connecting host
    TIDEGATE 1 <nonce>            ──►
                                  ◄──   <worker> <nonce> <proof>
    200 <proof>                   ──►
                                  ◄──   requests, as on every link

A proof is an HMAC of both nonces, the worker and the side under the cluster's secret: it is good for this connection
alone, and neither side's can be taken for the other's. A refusal is the line ``<status> <message>``.
"""

from __future__ import annotations

import hmac
import os
import re
from hashlib import sha256
from typing import Final

#: Of a line of the greeting.
MAX_LINE_BYTES: Final = 512
#: What a greeting may take.
GREETING_TIMEOUT_S: Final = 5.0
_HELLO = re.compile(rb"TIDEGATE 1 ([0-9a-f]{32})")
_CALL = re.compile(rb"([a-z2-7]{7}) ([0-9a-f]{32}) ([0-9a-f]{64})")
_WELCOME = re.compile(rb"200 ([0-9a-f]{64})")


class GreetingFailed(Exception):  # noqa: N818 - said of the greeting, as a verb
    """The other side does not say what it should."""


class WrongSecret(GreetingFailed):
    """It does not know the secret."""


def _proof(secret: bytes, side: bytes, hello_nonce: bytes, call_nonce: bytes, worker_id: bytes) -> bytes:
    said = b" ".join((b"tidegate link 1", side, hello_nonce, call_nonce, worker_id))
    return hmac.new(secret, said, sha256).hexdigest().encode()


class Host:
    """The listening side of one greeting."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._nonce = os.urandom(16).hex().encode()
        #: To be sent first.
        self.hello = b"TIDEGATE 1 " + self._nonce + b"\n"

    def answer(self, line: bytes) -> tuple[str, bytes]:
        """The worker that is asked for, and the line that welcomes the caller. Raises: GreetingFailed, WrongSecret."""
        match = _CALL.fullmatch(line)
        if match is None:
            raise GreetingFailed("it does not speak the protocol")
        worker_id, nonce, proof = match.groups()
        if not hmac.compare_digest(proof, _proof(self._secret, b"call", self._nonce, nonce, worker_id)):
            raise WrongSecret("its secret is another one")
        mine = _proof(self._secret, b"welcome", self._nonce, nonce, worker_id)
        return worker_id.decode(), b"200 " + mine + b"\n"


class Caller:
    """The connecting side of one greeting."""

    def __init__(self, secret: bytes, worker_id: str) -> None:
        self._secret = secret
        self._worker_id = worker_id.encode()
        self._nonce = os.urandom(16).hex().encode()
        self._hello_nonce = b""

    def call(self, line: bytes) -> bytes:
        """What is to be sent when the other side has said hello. Raises: GreetingFailed."""
        match = _HELLO.fullmatch(line)
        if match is None:
            raise GreetingFailed("it is no internal address of a gateway")
        self._hello_nonce = match[1]
        proof = _proof(self._secret, b"call", self._hello_nonce, self._nonce, self._worker_id)
        return b" ".join((self._worker_id, self._nonce, proof)) + b"\n"

    def check(self, line: bytes) -> None:
        """Whether the other side has let us in, and may. Raises: GreetingFailed with its words, WrongSecret."""
        match = _WELCOME.fullmatch(line)
        if match is None:
            raise GreetingFailed(line.decode("latin-1", "replace")[:200])
        expected = _proof(self._secret, b"welcome", self._hello_nonce, self._nonce, self._worker_id)
        if not hmac.compare_digest(match[1], expected):
            raise WrongSecret("its secret is another one")
