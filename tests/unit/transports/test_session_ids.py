"""Session ids: none twice, whatever process they come from."""

import os
import re

import pytest

from transports import session_ids


def test_ids_are_120_bits_in_the_letters_of_urls() -> None:
    ids = {session_ids.draw() for _ in range(5 * session_ids.BATCH)}
    assert len(ids) == 5 * session_ids.BATCH
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{20}", text) for text in ids)
    assert set("".join(ids)) > set("-_")  # 12,800 bits and more: every letter comes up


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no child processes that go on from here")
def test_a_forked_child_draws_ids_of_its_own() -> None:
    session_ids.draw()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join([session_ids.draw() for _ in range(session_ids.BATCH)]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        theirs = pipe.read().decode()
    os.waitpid(child, 0)
    ours = [session_ids.draw() for _ in range(session_ids.BATCH)]
    assert len(theirs) == 20 * session_ids.BATCH
    assert set(ours).isdisjoint(theirs[start : start + 20] for start in range(0, len(theirs), 20))


def test_owner_is_what_an_id_begins_with() -> None:
    worker_id = session_ids.draw_worker_id()
    assert session_ids.is_worker_id(worker_id)
    assert session_ids.owner_of(worker_id + session_ids.draw()) == worker_id


@pytest.mark.parametrize(
    "text", ["", "x", "../../etc/passwd", "ABCDEFG" + "a" * 20, "abcdefg" + "a" * 21, "abcdef/" + "a" * 20]
)
def test_id_of_another_form_names_no_owner(text: str) -> None:
    assert session_ids.owner_of(text) is None
    assert session_ids.owner_of(session_ids.draw()) is None
    assert not session_ids.is_worker_id(text)


def test_worker_ids_are_all_different() -> None:
    assert len({session_ids.draw_worker_id() for _ in range(2000)}) == 2000
