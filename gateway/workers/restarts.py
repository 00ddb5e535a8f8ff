"""When a worker that has died is started again."""

from __future__ import annotations

from typing import Final

#: The first time at once, then after these seconds, each time twice as long, up to the last.
FIRST_DELAY_S: Final = 0.25
LAST_DELAY_S: Final = 30.0
#: Who has lived so long has not died of its start.
SOUND_LIFE_S: Final = 10.0


class RestartDelays:
    """The delays of one slot."""

    def __init__(self) -> None:
        self.count = 0
        self._short_lives = 0

    def died(self, lived_s: float) -> float:
        """Seconds to wait, for one that has been ready for ``lived_s``; 0 where it never was."""
        self.count += 1
        if lived_s >= SOUND_LIFE_S:
            self._short_lives = 0
            return 0.0
        self._short_lives += 1
        if self._short_lives == 1 and lived_s > 0:
            return 0.0
        return float(min(FIRST_DELAY_S * 2 ** min(self._short_lives - 1, 20), LAST_DELAY_S))
