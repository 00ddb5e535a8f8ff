"""Clients behind proxies: whose word is taken, and what malformed and hostile headers come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.forwarded import MAX_HOPS, Client, TrustedProxies, canonical_network

PEER = "127.0.0.1"


def seen(peer: str = PEER, trusted: str | list[str] = ["loopback", "10.0.0.0/8"], **headers: str) -> Client:  # noqa: B006
    given = {name.replace("_", "-"): value for name, value in {"host": "inner:8000", **headers}.items()}
    return TrustedProxies(trusted).client(given, peer, "http")


def test_without_proxies_the_client_is_the_peer() -> None:
    assert seen("192.0.2.9") == Client("192.0.2.9", "http", "inner:8000", "")
    assert TrustedProxies([]).client({}, "", "https") == Client("", "https", "", "")


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("for=192.0.2.1", ("192.0.2.1", "http", "inner:8000")),
        ("For=192.0.2.1;PROTO=HTTPS;by=10.0.0.1;Host=a.example", ("192.0.2.1", "https", "a.example")),
        ('for="192.0.2.1:4711" ; proto="https" ; host="a.example:8443"', ("192.0.2.1", "https", "a.example:8443")),
        ('for="[2001:DB8::1]:4711"', ("2001:db8::1", "http", "inner:8000")),
        ('for="[2001:db8::1]"', ("2001:db8::1", "http", "inner:8000")),
        ('for="[::ffff:192.0.2.1]"', ("192.0.2.1", "http", "inner:8000")),
        ('for="192.0.2.1:_port"', ("192.0.2.1", "http", "inner:8000")),
        (r'for="\1\92.0.2.1"', ("192.0.2.1", "http", "inner:8000")),
        ("proto=wss", (PEER, "https", "inner:8000")),
        ("proto=ws", (PEER, "http", "inner:8000")),
        ("proto=gopher;host=a.example", (PEER, "http", "a.example")),
        ('for=192.0.2.1;host="a/b"', ("192.0.2.1", "http", "inner:8000")),
        # Nobody tells who hides behind these: the nearest proxy that is known stands for them.
        ("for=unknown;proto=https", (PEER, "https", "inner:8000")),
        ("for=_hidden, for=10.0.0.7", ("10.0.0.7", "http", "inner:8000")),
        ('for="_hidden:_port", for=10.0.0.7', ("10.0.0.7", "http", "inner:8000")),
        # The last one that is no proxy of ours; what it was told itself does not count, whatever it is.
        ("for=6.6.6.6, for=192.0.2.1;proto=https, for=10.0.0.2;proto=http", ("192.0.2.1", "https", "inner:8000")),
        ("for=10.1.1.1;host=a, for=10.0.0.2;host=b", ("10.1.1.1", "http", "a")),
        ("%%%, for=192.0.2.1", ("192.0.2.1", "http", "inner:8000")),
        ('for="open, for=192.0.2.1', ("192.0.2.1", "http", "inner:8000")),
        ('for="open, for="[2001:db8::1]"', ("2001:db8::1", "http", "inner:8000")),
        ('for=192.0.2.1;host="a, for=6.6.6.6"', ("192.0.2.1", "http", "inner:8000")),
        (r'for=192.0.2.1;x="a\", for=6.6.6.6;y=\"b"', ("192.0.2.1", "http", "inner:8000")),
        (",, for=192.0.2.1 ,,", ("192.0.2.1", "http", "inner:8000")),
    ],
)
def test_forwarded_is_read_from_its_end(forwarded: str, expected: tuple[str, str, str]) -> None:
    assert seen(forwarded=forwarded) == (*expected, "")


@pytest.mark.parametrize(
    "forwarded",
    [
        "for",
        "for=",
        "=192.0.2.1",
        "for=192.0.2.1;for=192.0.2.2",
        "for=192.0.2.256",
        "for=192.0.2.1:80",  # only quotes could hold the colon
        'for="192.0.2.1:123456"',
        "for=[2001:db8::1]",
        'for="2001:db8::1"',
        'for="[fe80::1%eth0]"',
        'for="[192.0.2.1]"x',
        'for="192.0.2.1',
        "for=example.org",
        "for=192.0.2.1;proto",
        "for =192.0.2.1",
        "for=192.0.2.1 proto=https",
        "for=6.6.6.6, for=;",
        "for=\u0661.2.3.4",
        ", " * 200 + "for=192.0.2.1" + "," * 200,
    ],
)
def test_malformed_forwarded_does_not_count(forwarded: str) -> None:
    assert seen(forwarded=forwarded) == (PEER, "http", "inner:8000", f"Forwarded from {PEER} was malformed")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"for": "192.0.2.1"}, ("192.0.2.1", "http", "inner:8000")),
        ({"for": "6.6.6.6, 192.0.2.1, 10.0.0.2"}, ("192.0.2.1", "http", "inner:8000")),
        ({"for": "10.0.0.1,10.0.0.2"}, ("10.0.0.1", "http", "inner:8000")),
        ({"for": "garbage\udcff, 192.0.2.1"}, ("192.0.2.1", "http", "inner:8000")),
        ({"for": "192.0.2.1:4711"}, ("192.0.2.1", "http", "inner:8000")),
        ({"for": "2001:db8::1"}, ("2001:db8::1", "http", "inner:8000")),
        ({"for": "::1"}, ("::1", "http", "inner:8000")),
        ({"for": "[2001:db8::1]:4711"}, ("2001:db8::1", "http", "inner:8000")),
        ({"for": "unknown"}, (PEER, "http", "inner:8000")),
        ({"for": ", ,"}, (PEER, "http", "inner:8000")),
        ({"proto": "https"}, (PEER, "https", "inner:8000")),
        ({"proto": "WSS"}, (PEER, "https", "inner:8000")),
        ({"proto": "javascript"}, (PEER, "http", "inner:8000")),
        ({"host": "a.example"}, (PEER, "http", "a.example")),
        ({"host": "a.example/b"}, (PEER, "http", "inner:8000")),
        ({"host": "a.example", "port": "8443"}, (PEER, "http", "a.example:8443")),
        ({"host": "a.example:1", "port": "8443"}, (PEER, "http", "a.example:1")),
        ({"host": "[::1]", "port": "8443"}, (PEER, "http", "[::1]:8443")),
        ({"host": "a.example", "port": "443", "proto": "https"}, (PEER, "https", "a.example")),
        ({"host": "a.example", "port": "80", "proto": "https"}, (PEER, "https", "a.example")),
        ({"host": "a.example", "port": "x"}, (PEER, "http", "a.example")),
        # What the proxy nearest to the client said, where each of them adds to the list.
        ({"for": "192.0.2.1, 10.0.0.2", "proto": "https, http"}, ("192.0.2.1", "https", "inner:8000")),
        ({"for": "192.0.2.1", "proto": "http, https", "host": "evil, a"}, ("192.0.2.1", "https", "a")),
        ({"for": "192.0.2.1, 10.0.0.2", "proto": "https"}, ("192.0.2.1", "https", "inner:8000")),
        ({"proto": "http, https"}, (PEER, "https", "inner:8000")),
    ],
)
def test_x_forwarded_headers_are_read_from_their_end(headers: dict[str, str], expected: tuple[str, str, str]) -> None:
    assert seen(**{f"x_forwarded_{name}": value for name, value in headers.items()}) == (*expected, "")


@pytest.mark.parametrize(
    "addresses",
    ["garbage", "192.0.2.1, garbage", "1.2.3", "1.2.3.4.5", "192.0.2.1:", "fe80::1%1", "::1::", "192.0.2.01"],
)
def test_malformed_addresses_do_not_count_and_the_rest_does(addresses: str) -> None:
    found = seen(x_forwarded_for=addresses, x_forwarded_proto="https")
    assert found == (PEER, "https", "inner:8000", f"X-Forwarded-For from {PEER} was malformed")


def test_forwarded_wins() -> None:
    headers = {"x_forwarded_proto": "http", "x_forwarded_host": "b", "x_forwarded_port": "1"}
    assert seen(forwarded="for=192.0.2.1;proto=https;host=a", **headers) == ("192.0.2.1", "https", "a", "")
    found = seen(forwarded="for=192.0.2.1;proto=https", x_forwarded_for="192.0.2.1", **headers)
    assert found == ("192.0.2.1", "https", "inner:8000", "")


def test_malformed_one_leaves_the_other() -> None:
    assert seen(forwarded=";;x", x_forwarded_for="192.0.2.1")[0] == "192.0.2.1"
    assert seen(forwarded="for=192.0.2.1", x_forwarded_for="x")[0] == "192.0.2.1"


def test_two_that_name_different_clients_are_both_left_out() -> None:
    """A proxy that writes one of them passes on the other, with which a client could call itself anything."""
    found = seen(forwarded="for=10.6.6.6;proto=https", x_forwarded_for="192.0.2.1")
    assert found == (PEER, "http", "inner:8000", f"Forwarded and X-Forwarded-For from {PEER} contradict each other")


def test_who_is_not_trusted_is_not_believed() -> None:
    found = seen("192.0.2.9", x_forwarded_for="1.1.1.1", x_forwarded_proto="https", forwarded="for=1.1.1.1")
    assert found[:3] == ("192.0.2.9", "http", "inner:8000")
    assert found.disbelief == (
        "Forwarded and X-Forwarded-For and X-Forwarded-Proto from 192.0.2.9 were not believed: "
        "it is not in trusted_proxies"
    )
    assert seen("", [], x_forwarded_for="1.1.1.1").disbelief.startswith("X-Forwarded-For from a Unix socket was not")


@pytest.mark.parametrize("name", ["x_forwarded_for", "forwarded"])
def test_endless_chains_are_not_followed(name: str) -> None:
    item = "10.0.0.1" if name == "x_forwarded_for" else "for=10.0.0.1"
    assert seen(**{name: ",".join([item] * MAX_HOPS)}).remote == "10.0.0.1"
    found = seen(**{name: ",".join([item] * (MAX_HOPS + 1))})
    assert (found.remote, found.disbelief[-9:]) == (PEER, "malformed")


@pytest.mark.parametrize(
    ("networks", "trusted", "others"),
    [
        (["loopback"], ["", "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"], ["10.0.0.1", "::2", "localhost"]),
        (["private"], ["10.9.9.9", "172.31.0.1", "192.168.1.1", "fd00::1", "::ffff:10.0.0.1"], ["", "172.32.0.1"]),
        (["192.0.2.7"], ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.8", "", "::"]),
        (["2001:db8::/32"], ["2001:db8::1", "2001:db8:0:0::%eth0"], ["2001:db9::1"]),
        ([], [], ["", "127.0.0.1", "::1"]),
        ("private", ["10.0.0.1"], ["127.0.0.1"]),
    ],
)
def test_trust_is_by_network(networks: str | list[str], trusted: list[str], others: list[str]) -> None:
    proxies = TrustedProxies(networks)
    assert [address for address in trusted if not proxies.trusts(address)] == []
    assert [address for address in others if proxies.trusts(address)] == []


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("Loopback", "loopback"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("10.0.0.1/32", "10.0.0.1"),
        ("2001:DB8::/32", "2001:db8::/32"),
    ],
)
def test_networks_have_one_form(text: str, canonical: str) -> None:
    assert canonical_network(text) == canonical


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"trusted_proxies: 'proxy' is not an IP address, a network .* loopback, priv"):
        TrustedProxies(["proxy"])
    with pytest.raises(ValueError, match=r"did you mean '10\.0\.0\.0/8'"):
        TrustedProxies("10.0.0.1/8")
    with pytest.raises(TypeError, match="not int"):
        TrustedProxies([1])  # type: ignore[list-item]


@given(st.text(alphabet='for=;,"\\ 10.:[]_a', max_size=60), st.text(alphabet="10.:[], _a", max_size=40))
def test_any_header_is_read_or_left(forwarded: str, addresses: str) -> None:
    found = seen(forwarded=forwarded, x_forwarded_for=addresses)
    assert found.remote
    assert found.scheme == "http"


@given(st.text(max_size=60).filter(lambda text: "\0" not in text))
def test_no_client_can_hide_or_forge_its_address(sent: str) -> None:
    assert seen(x_forwarded_for=f"{sent}, 192.0.2.1").remote == "192.0.2.1"
    assert seen(forwarded=f"{sent}, for=192.0.2.1").remote == "192.0.2.1"
