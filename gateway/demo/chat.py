"""A small chat: what a line must be, how fast lines may come, and the last ones said."""

import unicodedata
from collections import deque
from dataclasses import dataclass

MAX_NAME_LENGTH = 24
MAX_TEXT_LENGTH = 500
MAX_LINES_PER_WINDOW = 5
WINDOW_S = 3.0
REMEMBERED_LINES = 50


class ChatRefusedError(ValueError):
    """A line that is not said; the message is for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class ChatLine:
    id: int
    name: str
    text: str
    t: float
    """Unix seconds."""


class Chat:
    """The lines said so far, and the pace of each speaker.

    `REMEMBERED_LINES` lines are kept, and `MAX_LINES_PER_WINDOW` times for each speaker until `leave`.
    """

    __slots__ = ("_last_id", "_lines", "_spoke_at")

    def __init__(self) -> None:
        self._lines: deque[ChatLine] = deque(maxlen=REMEMBERED_LINES)
        self._spoke_at: dict[str, deque[float]] = {}
        self._last_id = 0

    @property
    def lines(self) -> tuple[ChatLine, ...]:
        """Oldest first."""
        return tuple(self._lines)

    def say(self, speaker: str, payload: object, *, now: float, t: float) -> ChatLine:
        """The line to pass on, for `payload` as it came from the client.

        now: monotonic seconds, for the pace; t: unix seconds, for the line.

        Raises: ChatRefusedError.
        """
        if not isinstance(payload, dict):
            raise ChatRefusedError("Send an object with a name and a text.")
        name = _checked("name", payload.get("name"), MAX_NAME_LENGTH)
        text = _checked("text", payload.get("text"), MAX_TEXT_LENGTH)
        spoke_at = self._spoke_at.setdefault(speaker, deque(maxlen=MAX_LINES_PER_WINDOW))
        if len(spoke_at) == MAX_LINES_PER_WINDOW and (wait_s := spoke_at[0] + WINDOW_S - now) > 0:
            raise ChatRefusedError(
                f"Too fast: {MAX_LINES_PER_WINDOW} lines in {WINDOW_S:g} seconds at most. "
                f"Try again in {max(wait_s, 0.1):.1f} s."
            )
        spoke_at.append(now)
        self._last_id += 1
        line = ChatLine(self._last_id, name, text, t)
        self._lines.append(line)
        return line

    def leave(self, speaker: str) -> None:
        self._spoke_at.pop(speaker, None)


def _checked(field: str, value: object, max_length: int) -> str:
    if not isinstance(value, str):
        raise ChatRefusedError(f"The {field} must be a string.")
    stripped = value.strip()
    if not stripped:
        raise ChatRefusedError(f"The {field} is empty.")
    if len(stripped) > max_length:
        raise ChatRefusedError(f"The {field} is longer than {max_length} characters.")
    # Half of a surrogate pair cannot be encoded again; control characters have nothing to say here.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in stripped):
        raise ChatRefusedError(f"The {field} holds characters that cannot be shown.")
    return stripped
