"""How far prediction is: a bar on a terminal, else a plain line every half minute, both on stderr."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from tqdm import tqdm

SECONDS_A_LINE = 30.0


class Progress:
    """Counts what is done, questions answered by default; use as a context manager.

    Lines come by the clock, so also while pictures are encoded and nothing is answered.
    """

    def __init__(self, total: int, unit: str = "question", seconds_a_line: float = SECONDS_A_LINE):
        self.total = total
        self.unit = unit
        self.done = self.skipped = 0
        self.seconds_a_line = seconds_a_line
        self.start = time.monotonic()
        self.bar = tqdm(total=total, unit=unit, file=sys.stderr) if sys.stderr.isatty() else None
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._lines, daemon=True)

    def __enter__(self) -> Progress:
        if self.bar is None:
            self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
            return
        self._over.set()
        self._clock.join()
        if kind is None:
            self._line()

    def skip(self, questions: int) -> None:
        """Count questions that were answered before, which say nothing about the pace."""
        self.done = self.skipped = questions
        if self.bar is not None:
            self.bar.initial = self.bar.n = questions
            self.bar.refresh()

    def add(self, questions: int) -> None:
        self.done += questions
        if self.bar is not None:
            self.bar.update(questions)

    def _lines(self) -> None:
        while not self._over.wait(self.seconds_a_line):
            self._line()

    def _line(self) -> None:
        seconds = time.monotonic() - self.start
        rate = (self.done - self.skipped) / seconds if seconds else 0.0
        left = f"{(self.total - self.done) / rate:.0f} s left" if rate else "time left unknown"
        print(f"{self.done}/{self.total} {self.unit}s, {rate:.1f} {self.unit}s/s, {left}", file=sys.stderr, flush=True)
