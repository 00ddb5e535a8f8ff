"""Compressed bodies: what they inflate to, and where that ends."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports import catalogue
from transports.errors import RemoteProtocolError
from transports.protocol.content_coding import MAX_MEMBERS, content_coding, inflate


def bare(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


FORMS = {"gzip": gzip.compress, "deflate": zlib.compress, "bare": bare}


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", ""),
        ("identity", ""),
        (" GZip ", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("br", None),
        ("zstd", None),
        ("gzip, gzip", None),
        ("identity, gzip", None),
        ("gzip;q=1", None),
    ],
)
def test_codings_are_known_by_name(header: str, coding: str | None) -> None:
    assert content_coding(header) == coding


@pytest.mark.parametrize("form", FORMS)
@given(data=st.binary(max_size=200))
def test_what_was_deflated_is_inflated(form: str, data: bytes) -> None:
    assert inflate("gzip" if form == "gzip" else "deflate", FORMS[form](data), 200) == data


@pytest.mark.parametrize("form", FORMS)
def test_the_limit_is_exact(form: str) -> None:
    coding = "gzip" if form == "gzip" else "deflate"
    packed = FORMS[form](b"x" * 1000)
    assert len(inflate(coding, packed, 1000)) == 1000
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        inflate(coding, packed, 999)


def test_no_more_than_the_limit_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    make = zlib.decompressobj

    class Watched:
        def __init__(self, window: int) -> None:
            self.stream = make(window)

        def decompress(self, data: bytes, most: int) -> bytes:
            asked.append(most)
            return self.stream.decompress(data, most)

        @property
        def eof(self) -> bool:
            return self.stream.eof

        @property
        def unused_data(self) -> bytes:
            return self.stream.unused_data

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        inflate("gzip", gzip.compress(b"\0" * 600) + gzip.compress(b"\0" * 1_000_000), 1000)
    assert asked == [1001, 401]


def test_gzip_may_come_in_pieces_and_their_number_is_bounded() -> None:
    assert inflate("gzip", gzip.compress(b"a") + gzip.compress(b"b"), 10) == b"ab"
    assert inflate("gzip", gzip.compress(b"") * MAX_MEMBERS, 10) == b""
    with pytest.raises(RemoteProtocolError, match="behind its end"):
        inflate("gzip", gzip.compress(b"") * (MAX_MEMBERS + 1), 10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:3], lambda data: data + b"\0\0", lambda data: b"\xff" * 9]
)
def test_broken_data_is_refused(form: str, damage: object) -> None:
    broken = damage(FORMS[form](b"hello world, hello world"))  # type: ignore[operator]
    with pytest.raises(RemoteProtocolError) as caught:
        inflate("gzip" if form == "gzip" else "deflate", broken, 1000)
    assert caught.value.refusal is catalogue.BAD_BODY


@given(st.sampled_from(["gzip", "deflate"]), st.binary(max_size=60))
def test_anything_is_inflated_or_refused(coding: str, data: bytes) -> None:
    try:
        assert len(inflate(coding, data, 50)) <= 50
    except RemoteProtocolError:
        pass
