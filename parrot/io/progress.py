"""How far a long piece of work is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from tqdm import tqdm

SECONDS_PER_LINE = 30.0


class Progress:
    """Counts what is done: tqdm's bar on a terminal, else a plain line every half minute, both on stderr.

    The lines are ours, since tqdm writes one only as something is done: they come by the clock, so also while nothing
    is done. Use it as a context manager.
    """

    def __init__(self, total: int, unit: str = "question", seconds_per_line: float = SECONDS_PER_LINE):
        self.total = total
        self.unit = unit
        self.scaled = unit == "B"  # bytes, in thousands, millions and so on
        self.done = self.skipped = 0
        self.seconds_per_line = seconds_per_line
        self.start = time.monotonic()
        bar = tqdm(total=total, unit=unit, unit_scale=self.scaled, file=sys.stderr) if sys.stderr.isatty() else None
        self.bar = bar
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

    def skip(self, count: int) -> None:
        """Count what was done before, which says nothing about the pace."""
        self.done = self.skipped = count
        if self.bar is not None:
            self.bar.initial = self.bar.n = count
            self.bar.refresh()

    def add(self, count: int) -> None:
        """Count more items as done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)

    def _lines(self) -> None:
        while not self._over.wait(self.seconds_per_line):
            self._line()

    def _line(self) -> None:
        seconds = time.monotonic() - self.start
        rate = (self.done - self.skipped) / seconds if seconds else 0.0
        known = rate and self.done <= self.total
        left = f"{(self.total - self.done) / rate:.0f} s left" if known else "time left unknown"
        if self.scaled:
            done, total, pace = (tqdm.format_sizeof(number, "B") for number in (self.done, self.total, rate))
            print(f"{done} of {total}, {pace}/s, {left}", file=sys.stderr, flush=True)
            return
        print(f"{self.done}/{self.total} {self.unit}s, {rate:.1f} {self.unit}s/s, {left}", file=sys.stderr, flush=True)
