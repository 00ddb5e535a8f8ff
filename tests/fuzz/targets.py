"""The targets by name: what to call with arbitrary bytes, and where its seeds and words lie."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import broker_targets, gateway_target, http_targets, packet_targets, request_targets, websocket_target

HERE = Path(__file__).parent
_WORD = re.compile(r'^"((?:[^"\\]|\\.)*)"$', re.MULTILINE)
_ESCAPE = re.compile(rb'\\(x[0-9A-Fa-f]{2}|[\\"])')


@dataclass(frozen=True)
class Target:
    """``check`` returns, or raises what is a finding. ``is_script``: the input is made of lines."""

    name: str
    check: Callable[[bytes], None]
    max_bytes: int = 4096
    is_script: bool = False

    @property
    def corpus(self) -> Path:
        """Seeds made by ``tests.fuzz.seeds``."""
        return HERE / "corpus" / self.name

    @property
    def regressions(self) -> Path:
        """Inputs that once were findings."""
        return HERE / "regressions" / self.name

    @property
    def dictionary(self) -> Path:
        return HERE / "dictionaries" / f"{self.name}.dict"

    def seeds(self) -> dict[str, bytes]:
        """By the file's path within this folder."""
        files = [*sorted(self.corpus.glob("*.bin")), *sorted(self.regressions.glob("*.bin"))]
        return {file.relative_to(HERE).as_posix(): file.read_bytes() for file in files}

    def words(self) -> list[bytes]:
        """What the dictionary holds."""
        return [
            _ESCAPE.sub(lambda match: bytes.fromhex(match[1][1:].decode()) if match[1][:1] == b"x" else match[1], word)
            for word in (found.encode() for found in _WORD.findall(self.dictionary.read_text()))
        ]


TARGETS = {
    target.name: target
    for target in (
        Target("frames", websocket_target.check),
        Target("http-head", http_targets.check_head),
        Target("chunked", http_targets.check_chunked),
        Target("payload", packet_targets.check_payload),
        Target("payload-pieces", packet_targets.check_engine_pieces),
        Target("json", packet_targets.check_json),
        Target("msgpack", packet_targets.check_msgpack),
        Target("request", request_targets.check_request),
        Target("negotiation", request_targets.check_negotiation),
        Target("jsonp", request_targets.check_jsonp),
        Target("envelope", broker_targets.check_envelope),
        Target("bus", broker_targets.check_bus),
        Target("resp", broker_targets.check_resp),
        Target("gateway", gateway_target.check, max_bytes=8192, is_script=True),
    )
}
