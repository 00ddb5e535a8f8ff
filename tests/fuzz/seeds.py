"""Writes the seed corpus: ``python -m tests.fuzz.seeds``. What it writes depends on this file alone."""

from __future__ import annotations

import shutil

import msgpack

from gateway.brokers.frames import encode_frame
from gateway.brokers.resp import encode_command
from gateway.envelope import Envelope, EnvelopeKind, Message, MessageFlag, MessageKind
from tests.unit.transports.engine_doubles import KEY, client_frame

from .gateway_target import BREAK
from .targets import TARGETS

#: Choices at the end of an input: one byte at a time; in one piece. The last byte is chosen first.
EACH_BYTE, WHOLE = b"\x07\x00", b"\x00\x00"

_POST = "POST /socket.io/?EIO=4&transport=polling&sid=id3 HTTP/1.1\r\nHost: h\r\n"

Seeds = dict[str, bytes]


def frames() -> Seeds:
    fragments = client_frame(1, b"\xc3", fin=False) + client_frame(9, b"p") + client_frame(0, b"\xa9")
    streams = {
        "text": client_frame(1, '42["a"]') + client_frame(1, "3"),
        "binary": client_frame(2, bytes(range(200))),
        "fragments": fragments,
        "long": client_frame(1, "x" * 300),
        "close": client_frame(8, b"\x03\xe8bye") + client_frame(1, "late"),
        "close-empty": client_frame(8),
        "not-utf-8": client_frame(1, b"\xff"),
        "unmasked": b"\x81\x01a",
        "reserved": client_frame(1, "a", rsv=0x40),
        "too-big": b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0",
        "not-shortest": b"\x81\xfe\x00\x05\0\0\0\0hello",
        "continuation": client_frame(0, "a"),
    }
    return {name: stream + EACH_BYTE for name, stream in streams.items()} | {
        "text-whole": streams["text"] + WHOLE,
        "fragments-cut": fragments + b"\x00\x03\x00\x09\x00\x0c\x03\x00",
        "too-big-for-one": client_frame(1, "ab") + b"\x00\x04",
    }


def head(*lines: str, request: str = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1") -> bytes:
    return "\r\n".join([request, *lines]).encode("latin-1")


def http_heads() -> Seeds:
    return {
        "get": head("Host: a", "Connection: keep-alive"),
        "http-1.0": head("Connection: keep-alive", request="GET / HTTP/1.0"),
        "post": head("Host: a", "Content-Length: 12", request="POST /socket.io/?sid=x HTTP/1.1"),
        "chunked": head("Host: a", "Transfer-Encoding: chunked", request="POST / HTTP/1.1"),
        "both": head("Host: a", "Transfer-Encoding: chunked", "Content-Length: 3"),
        "twice": head("Host: a", "Content-Length: 3", "Content-Length: 4"),
        "joined": head("Host: a", "Cookie: a=1", "cookie: b=2", "X-A: 1", "x-a: 2"),
        "folded": head("Host: a", "X-A: 1", " 2"),
        "latin": head("Host: a", "X-A: \xe9\xff"),
        "no-host": head("X-A: 1"),
        "bare-line-feed": b"GET / HTTP/1.1\nHost: a",
    }


def chunked() -> Seeds:
    streams = {
        "two": b"5\r\nhello\r\nA;x=1\r\n0123456789\r\n0\r\n\r\nGET /",
        "trailers": b"1\r\na\r\n0\r\nX-A: 1\r\n\r\n",
        "empty": b"0\r\n\r\n",
        "not-hex": b"5x\r\nhello\r\n",
        "huge": b"ffffffff\r\n",
        "short": b"3\r\nhello\r\n0\r\n\r\n",
        "long-line": b"1;" + b"x" * 1030 + b"\r\na\r\n0\r\n\r\n",
    }
    return {name: stream + EACH_BYTE for name, stream in streams.items()} | {
        "limited": streams["two"] + b"\x00\x03",
        "limited-each-byte": streams["two"] + b"\x07\x03",
    }


def payloads() -> Seeds:
    return {
        "one": b"4hello",
        "several": "2\x1e3\x1e4é\x1ebAQID\x1e6\x1e5\x1e1".encode(),
        "probe": b"2probe",
        "base64": b"bAQI=",
        "not-base64": b"bA",
        "empty": b"",
        "empty-packet": b"4a\x1e",
        "digit": "\uff14a".encode(),
        "not-utf-8": b"4\xff",
    }


def jsons() -> Seeds:
    """Text, then the choices: class, length of the attachments and their bytes, number of attachments."""
    plain, one = b"\x00\x00\x00", b"\x01x\x01\x00"
    texts = {
        "connect": '0/admin,{"token":1}',
        "connect-query": "0/a?b=c",
        "disconnect": "1/admin,",
        "event": '2/chat,17["say",{"a":[1,2.5,null,true,"é"]}]',
        "ack": "343[1]",
        "many-digits": "39999999999999999[]",
        "reserved": '2["disconnect"]',
        "error": '4{"message":1}',
        "number": "2[1,1e400,123456789012345678901234567890,-0.0]",
        "surrogate": '2["\\ud800"]',
        "deep": "2" + "[" * 127 + '"a"' + "]" * 127,
        "too-deep": '2["a",' + "[" * 128 + "]" * 128 + "]",
        "constant": '2["a",NaN,Infinity]',
        "nested": '2["a",{"_placeholder":true,"num":0}]',
    }
    seeds = {name: text.encode() + plain for name, text in texts.items()}
    seeds |= {f"{name}-stdlib": texts[name].encode() + b"\x00\x00\x01" for name in ("number", "surrogate", "constant")}
    place = '{"_placeholder":true,"num":%d}'
    seeds["binary"] = f'51-["a",{place % 0}]'.encode() + one
    seeds["binary-ack"] = f"61-/n,5[{place % 0}]".encode() + one
    seeds["binary-two"] = f'52-["a",{place % 1},[{place % 0}]]'.encode() + b"\x02x\x01\x00"
    seeds["binary-none"] = b'50-["a"]' + plain
    seeds["binary-unplaced"] = b'51-["a"]' + one
    seeds["binary-twice"] = f'52-["a",{place % 0},{place % 0}]'.encode() + b"\x02x\x01\x00"
    seeds["binary-many"] = b'5999-["a"]' + plain
    return seeds


def msgpacks() -> Seeds:
    def packed(packet_type: object, data: object = None, **fields: object) -> bytes:
        encoded: bytes = msgpack.packb({"type": packet_type, "nsp": "/", "data": data, **fields})
        return encoded

    deep: object = "a"
    for _ in range(140):
        deep = [deep]
    return {
        "connect": packed(0, {"token": "x"}),
        "event": packed(2, ["say", 1, 2.5, None, True, b"\x00\xff", {"a": {b"k": [1]}}], id=7),
        "ack": packed(3, [], id=1),
        "disconnect": packed(1),
        "extension": packed(2, ["a", msgpack.ExtType(0, b"\0"), msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2)]),
        "integers": packed(2, ["a", 2**64 - 1, -(2**63), float("nan"), float("inf")]),
        "deep": packed(2, ["a", deep]),
        "type": packed("2", ["a"]),
        "list": b"\x93\x01\x02\x03",
        "key": b"\x81\x01\x02",
        "array-of-many": b"\xdd\xff\xff\xff\xff",
    }


def requests() -> Seeds:
    """The choices: which origins are allowed, whether cookies are."""
    upgrade = (
        "Host: example.org", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
    )  # fmt: skip
    preflight = "OPTIONS /socket.io/?EIO=4&transport=polling&sid=a HTTP/1.1"
    heads = {
        "plain": head("Host: example.org"),
        "origin": head("Host: example.org:80", "Origin: http://example.org:80"),
        "foreign": head("Host: example.org", "Origin: https://evil.example"),
        "proxy": head("Host: a", "Origin: https://b", "X-Forwarded-Proto: https, http", "X-Forwarded-Host: b, c"),
        "preflight": head(
            "Host: a", "Origin: http://a", "Access-Control-Request-Headers: content-type, x-a", request=preflight
        ),
        "gzip": head("Host: a", "Accept-Encoding: br;q=1, gzip;q=0.5"),
        "no-gzip": head("Host: a", "Accept-Encoding: gzip; q=0.0, *"),
        "jsonp": head("Host: a", request="GET /socket.io/?EIO=4&transport=polling&j=12 HTTP/1.1"),
        "jsonp-digit": head("Host: a", request="GET /socket.io/?EIO=4&transport=polling&j=%D9%A1 HTTP/1.1"),
        "twice": head("Host: a", request="GET /socket.io/?EIO=4&transport=polling&transport=websocket HTTP/1.1"),
        "escapes": head("Host: a", request="GET /socket.io/?EIO=4&transport=%ff&sid=%00 HTTP/1.1"),
        "websocket": head(*upgrade),
        "websocket-version": head(*[line.replace("13", "8") for line in upgrade]),
        "address": head("Host: [::1]:8000", "X_Forwarded_For: 1", "Content-Type: text/plain"),
        "origin-not-ascii": head("Host: a", "Origin: http://\xff"),
    }
    seeds = {f"{name}-{allowed}": text + bytes((0, allowed)) for name, text in heads.items() for allowed in (0, 4)}
    return seeds | {"origin-asked": heads["origin"] + b"\x01\x05", "origin-asked-all": heads["origin"] + b"\x01\x06"}


def negotiations() -> Seeds:
    end = b"\r\n\r\n"
    get = "GET /engine.io/?EIO=4&transport={} HTTP/1.1"
    post = "POST /engine.io/?EIO=4&transport={} HTTP/1.1"
    upgrade = ("Host: a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = f"Sec-WebSocket-Key: {KEY}"
    return {
        "polling": head("Host: a", request=get.format("polling")) + end,
        "streaming": head("Host: a", request=get.format("xhr-streaming&ack=0&padding=64")) + end,
        "websocket": head(*upgrade, key, request=get.format("websocket")) + end,
        "websocket-key": head(*upgrade, request=get.format("websocket")) + end,
        "upgrade": head(*upgrade, key, request=get.format("websocket&sid=a")) + end,
        "upgrade-streaming": head("Host: a", request=get.format("xhr-streaming&sid=a")) + end,
        "poll": head("Host: a", request=get.format("polling&sid=a")) + end,
        "poll-jsonp": head("Host: a", request=get.format("polling&j=1&sid=a")) + end,
        "mismatch": head("Host: a", request=get.format("polling&sid=b")) + end,
        "post": head("Host: a", request=post.format("polling&sid=a")) + end + b"4a\x1e2probe",
        "post-close": head("Host: a", request=post.format("polling&sid=a")) + end + b"1",
        "post-large": head("Host: a", request=post.format("polling&sid=a")) + end + b"4" + b"a" * 1000,
        "post-websocket": head("Host: a", request=post.format("polling&sid=b")) + end + b"4a",
        "post-jsonp": head("Host: a", request=post.format("polling&j=0&sid=a")) + end + b"d=4a%5Cn",
        "version": head("Host: a", request=get.format("polling").replace("4", "3")) + end,
        "put": head("Host: a", request=get.format("polling").replace("GET", "PUT")) + end,
        "options": head("Host: a", "Origin: http://a", request=get.format("polling").replace("GET", "OPTIONS")) + end,
    }


def jsonps() -> Seeds:
    form, raw = b"\x01", b"\x00"
    return {
        "text": '4["é",1]\x1e4b'.encode() + form,
        "newlines": b"4a\nb\\nc" + form,
        "percent": b"4a%2Bb+c&d=4x" + form,
        "binary": b"bAQID" + form,
        "raw": b"d=4hello" + raw,
        "raw-escapes": b"d=4a%5Cn%5C%5Cn" + raw,
        "raw-other-field": b"e=4a&d=4b&d=4c" + raw,
        "raw-not-utf-8": b"d=%ff" + raw,
        "raw-not-ascii": b"d=\xc3\xa9" + raw,
    }


def scripts() -> Seeds:
    """See ``gateway_target``; the bystander is ``id1`` and ``id2``, so the first session here is ``id3``."""
    join = ("g0p", "P1polling&sid=id3 40")
    ws = ("g2w", "t240")
    upgrade = (*join, "g0p&sid=id3", "g2w&sid=id3", "t22probe", "t25")
    seeds: dict[str, tuple[str, ...]] = {
        "polling": (*join, "g0p&sid=id3", 'P1polling&sid=id3 421["echo",1]', "g0p&sid=id3", "P1polling&sid=id3 1"),
        "poll-cut": (*join, "g0p&sid=id3", "g0p&sid=id3", "l0"),
        "two-polls": (*join, "g0p&sid=id3", "g3p&sid=id3", "w2"),
        "streaming": ("g0s", "P1xhr-streaming&sid=id3 40", 'P1xhr-streaming&sid=id3 421["late",1]', "w2", "e0"),
        "streaming-counted": (
            "g0s&ack=0&padding=99", "P1xhr-streaming&sid=id3 40", 'P1xhr-streaming&sid=id3 42["flood"]', "l0",
            "g2s&sid=id3&ack=2", "w2", "g3s&sid=id3&ack=2", "w3",
        ),
        "streaming-upgrade": (*join, "g2s&sid=id3", "P1xhr-streaming&sid=id3 2probe", "g0p&sid=id3",
                              "P1xhr-streaming&sid=id3 5", "g3w&sid=id3", "t32probe", "t35", 't342["echo"]'),
        "websocket": (*ws, 't2421["echo",{"a":1}]', "i2ping", "x2\x03\xe8"),
        "upgrade": (*upgrade, 't242["echo",1]', "w4"),
        "upgrade-dropped": (*upgrade[:-1], "l2", "g0p&sid=id3", "w2"),
        "upgrade-late": (*upgrade[:-1], "w3", "t25"),
        "upgrade-wrong": (*join, "g2w&sid=id3", "t24a", "g0p&sid=id3"),
        "rooms": (
            *ws, 't242["join","a"]', "g3w", "t340", 't342["join","a"]', 't242["shout","a",1]', 't342["leave","a"]',
        ),
        "namespaces": (*ws, "t240/slow,", "t240/refuse,{}", "t240/none,", "t241/slow,", "w2", "t240/slow,", "t241"),
        "call": (*ws, 't2421["call",1]', 't2431["answer"]', 't2422["call",1]', "w3"),
        "bye": (*ws, 't242["bye"]', 't242["echo"]', "t240"),
        "binary": (*ws, 't2451-1["echo",{"_placeholder":true,"num":0}]', "b2data", 't2451-["echo"]', "t24a"),
        "attachment-missing": (
            *ws, 't2452-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', "b2x", "l2x",
        ),
        "fragments": (*ws, 'f2421["echo",', "i2", "c21]"),
        "never-reads": (*ws, "j2", 't242["flood"]', 't242["flood"]', 't242["flood"]', "w3", "u2", "w4"),
        "never-reads-broadcast": (*ws, "j2", "g3w", "t340", *('t342["everybody","%s"]' % ("x" * 900),) * 8, "w2"),
        "stream-never-read": (
            "g0s", "j0", "P1xhr-streaming&sid=id3 40", 'P1xhr-streaming&sid=id3 42["flood"]', "w4", "u0",
        ),
        "half-body": (*join, f"r0{_POST}Content-Length: 9\r\n\r\n4a", "w4", "w4"),
        "half-head": (
            "r0GET /socket.io/?EIO=4", "w4", "r0 HTTP/1.1\r\n\r\n", "r1GET /socket.io/ HTTP/1.1\r\nA: ", "e1",
        ),
        "chunks": (*join, f"r0{_POST}Transfer-Encoding: chunked\r\n\r\n2\r\n42\r\n",
                   'r08\r\n["echo"]\r\n0\r\n\r\n'),
        "too-large": (*join, "P1polling&sid=id3 4" + "x" * 4000, "g0p&sid=id3"),
        "two-posts": (*join, f"r0{_POST}Content-Length: 9\r\n\r\n4a",
                      "P1polling&sid=id3 4b", "g2p&sid=id3"),
        "pipelined": ("n0", "g0p", "n0", "g0p&sid=id3", "g0p&sid=id4", "P0polling&sid=id3 40", "w1"),
        "silent": ("g0p", "w4", "w4"),
        "no-namespace": ("g2w", "w3", "w2"),
        "not-ours": ("r0GET / HTTP/1.1\r\nHost: h\r\n\r\n", "r1\x16\x03\x01", "r2x y z\r\n\r\n"),
        "jsonp": ("g0p&j=0", "P1polling&j=0&sid=id3 d=40", "g0p&j=0&sid=id3"),
        "expect": ("g0p", f"r1{_POST}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", "r140"),
    }  # fmt: skip
    found = {name: _script(lines) + b"\0" for name, lines in seeds.items()}
    for name in ("websocket", "bye", "call", "rooms"):
        found[f"{name}-in-order"] = _script(seeds[name]) + b"\x02"
    found["memory"] = _script(seeds["upgrade"]) + b"\x50"
    packets = [msgpack.packb({"type": kind, "nsp": "/", "data": data, "id": 1})
               for kind, data in ((0, {}), (2, ["echo", b"x"]), (2, ["call"]), (3, [1]), (1, None))]  # fmt: skip
    found["msgpack"] = BREAK.join([b"g2w", *(b"b2" + packet for packet in packets)]) + b"\x01"
    polled = (b"g0p", b"P1polling&sid=id3 bgqR0eXBlAKNuc3ChLw==", b"g0p&sid=id3")
    found["msgpack-polling"] = BREAK.join(polled) + b"\x01"
    found["msgpack-empty"] = BREAK.join([b"g2w", b"b2" + packets[0], b"b2", b"t24"]) + b"\x01"
    return found


def _script(lines: tuple[str, ...]) -> bytes:
    return BREAK.join(line.encode() for line in lines)


def envelopes() -> Seeds:
    message = Message(
        MessageKind.EMIT, "/chat", ("a", "b"), ("c",), ("sid",), b'2["x"]', (b"\0",), (1, None, {"a": 2.5})
    )
    return {
        "publication": Envelope(EnvelopeKind.PUBLICATION, "node-1", 7, 8, 9, 1, b"body").encode(),
        "canary": Envelope(EnvelopeKind.CANARY, "n").encode(),
        "newer": b"\x98\x02" + Envelope(EnvelopeKind.BYE, "n").encode()[2:],
        "no-sender": Envelope(EnvelopeKind.BYE, "").encode(),
        "message": message.encode(),
        "empty-message": Message(MessageKind.DISCONNECT).encode(),
        "conflated": Message(MessageKind.EMIT, flags=MessageFlag.CONFLATED, key="k").encode(),
        "timestamp": msgpack.packb([1, 9, "/", [], [], [], None, [], [msgpack.Timestamp(1, 2)], 0, None]),
    }


def buses() -> Seeds:
    frames = {
        "one": encode_frame(["room"], b"envelope"),
        "several": encode_frame(["a", "é", ""], b"") + encode_frame([], b"second"),
        "cut": encode_frame(["room"], bytes(40))[:30],
        "too-long": b"\xff\xff\xff\xff",
        "topic-too-long": b"\0\0\0\x04\0\x01\0\xff",
        "not-utf-8": b"\0\0\0\x05\0\x01\0\x01\xff",
    }
    return {name: stream + EACH_BYTE for name, stream in frames.items()}


def resps() -> Seeds:
    values = {
        "message": encode_command("message", "room", b"\0\r\n\xff") * 2,
        "subscribed": b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
        "replies": b":1\r\n+OK\r\n-OOM no more\r\n$-1\r\n*-1\r\n*0\r\n",
        "nested": b"*1\r\n*2\r\n$1\r\na\r\n*1\r\n:-5\r\n",
        "too-deep": b"*1\r\n" * 12,
        "oversized": b"*2\r\n$70\r\n" + b"x" * 70 + b"\r\n$1\r\na\r\n:7\r\n",
        "oversized-message": encode_command("message", "room", b"x" * 90) + b":1\r\n",
        "not-a-number": b":x\r\n",
        "unknown": b"%1\r\n",
    }
    return {name: stream + b"\x01" + EACH_BYTE for name, stream in values.items()}


CORPUS = {
    "frames": frames,
    "http-head": http_heads,
    "chunked": chunked,
    "payload": payloads,
    "payload-pieces": lambda: {name: seed + b"\x04\x00\x02\x00\x02" for name, seed in payloads().items()},
    "json": jsons,
    "msgpack": msgpacks,
    "request": requests,
    "negotiation": negotiations,
    "jsonp": jsonps,
    "envelope": envelopes,
    "bus": buses,
    "resp": resps,
    "gateway": scripts,
}


def main() -> None:
    for name, make in CORPUS.items():
        folder = TARGETS[name].corpus
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for seed, data in make().items():
            (folder / f"{seed}.bin").write_bytes(data)


if __name__ == "__main__":
    main()
