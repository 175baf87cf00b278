# SPDX-License-Identifier: GPL-2.0-only
"""Tells what a run is doing, on stderr: live on a terminal, in plain lines anywhere else.

A stage that is over at once gives one line. A longer one gives a line with the time it is
expected to take, as learned from earlier runs; on a terminal that line then lives, elsewhere (the
log of a CI system) a line follows every half minute, so that nobody takes the run for dead.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kpatch.lib import cache, sanitize
from kpatch.lib.stage import StageRecord, shell_line

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

QUICK_SECONDS = 0.3
TICK_SECONDS = 0.2
HEARTBEAT_SECONDS = 30.0
KEPT_TIMINGS = 5


class Timings:
    """How long stages took in earlier runs: the median of the last few, by kind of stage.

    A file that is missing, broken or cannot be written costs the expectation and nothing else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache.root() / "timings.json" if path is None else path

    def expected(self, key: str) -> float | None:
        """Seconds that ``key`` should take, None if it was never seen."""
        seen = self._read().get(key)
        return statistics.median(seen) if seen else None

    def learn(self, key: str, seconds: float) -> None:
        """Remember that ``key`` took ``seconds``."""
        known = self._read()
        known[key] = [*known.get(key, []), round(seconds, 2)][-KEPT_TIMINGS:]
        with suppress(OSError):
            self._write(json.dumps(known, indent=1, sort_keys=True))

    def _read(self) -> dict[str, list[float]]:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(data, dict):
            return {}
        return {key: value for key, value in data.items() if _numbers(value)}

    def _write(self, content: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=self.path.parent, prefix=".timings.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(content)
        try:
            temporary.replace(self.path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


class LiveStage:
    """A stage that is going on: the `kpatch.lib.stage.Stage` that the stages get.

    Set ``cached`` when there was nothing to do. ``record`` is there when the stage is over.
    """

    def __init__(
        self,
        name: str,
        series: str | None,
        expected: float | None,
        progress: Progress,
        *,
        echo: bool,
    ) -> None:
        self.name = name
        self.series = series
        self.expected = expected
        self.cached = False
        self.record: StageRecord | None = None
        self.announced = False
        self.began = time.monotonic()
        self.spoke = self.began
        self._progress = progress
        self._echo = echo
        self._note = ""
        self._share: float | None = None
        self._commands: list[str] = []

    def note(self, text: str) -> None:
        """Say in a few words what is being done now."""
        self._note = text

    def say(self, text: str) -> None:
        """Say it at once, and while the stage lives."""
        self.note(text)
        self._progress.say(f"{self.title}: {text}")

    def advance(self, done: float, total: float | None) -> None:
        """Tell how much of the stage is done."""
        self._share = min(1.0, max(0.0, done / total)) if total else None

    def command(self, argv: Sequence[str], *, cwd: Path | None = None) -> None:
        """Record a command that repeats (part of) this stage."""
        line = shell_line(argv, cwd=cwd)
        self._commands.append(line)
        if self._echo:
            self._progress.say(f"  $ {line}")

    @property
    def title(self) -> str:
        """The stage's name, and its series if it is for one."""
        return f"{self.name} {self.series}" if self.series else self.name

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def status(self) -> str:
        """One line: elapsed and expected time, share, what is being done."""
        about = f" of about {sanitize.duration(self.expected)}" if self.expected else ""
        share = f", {self._share:.0%}" if self._share is not None else ""
        note = sanitize.line(self._note)
        doing = f", {note}" if note else ""
        return f"{self.title}: {sanitize.duration(self.elapsed)}{about}{share}{doing}"

    def opening(self) -> str:
        """The line that a stage starts with in a log."""
        about = f", about {sanitize.duration(self.expected)}" if self.expected else ""
        return f"{self.title}: started{about}"

    def finish(self) -> StageRecord:
        """The stage is over."""
        self.record = StageRecord(
            self.name, self.series, round(self.elapsed, 3), self.cached, tuple(self._commands)
        )
        return self.record


class Progress:
    """Follows the stages of a run; several may go on at once, in threads of their own.

    ``records`` are the stages that are over, those included that failed. ``echo`` shows every
    command. Nothing that happens to ``file`` (a closed pipe) disturbs the run.
    """

    def __init__(
        self,
        *,
        file: IO[str] | None = None,
        timings: Timings | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
        echo: bool = False,
    ) -> None:
        self.records: list[StageRecord] = []
        self._file = sys.stderr if file is None else file
        self._timings = Timings() if timings is None else timings
        self._heartbeat = heartbeat
        self._echo = echo
        self._lock = threading.RLock()
        self._active: list[LiveStage] = []
        self._ticker: _Ticker | None = None
        self._live: Live | None = None

    @contextmanager
    def stage(self, name: str, *, series: str | None = None, kind: str = "") -> Iterator[LiveStage]:
        """A stage while the block lasts. ``kind`` tells apart what takes a different time.

        Names that go together: ``build``, series ``netlink``, kind ``7.3 plain``.
        """
        key = f"{name} {kind}".strip()
        expected = self._timings.expected(key)
        stage = LiveStage(name, series, expected, self, echo=self._echo)
        self._begin(stage)
        try:
            yield stage
        except BaseException:
            self._end(stage, "stopped after ")
            raise
        self._end(stage, "cached, " if stage.cached else "")
        assert stage.record is not None
        if not stage.cached:
            self._timings.learn(key, stage.record.seconds)

    def say(self, line: str) -> None:
        """Print a line of its own, above whatever lives on the terminal."""
        with self._lock, suppress(OSError, ValueError):
            if self._live is not None:
                self._live.console.print(_text(line), soft_wrap=True)
            else:
                self._file.write(sanitize.clean(line) + "\n")
                self._file.flush()

    def _begin(self, stage: LiveStage) -> None:
        with self._lock:
            self._active.append(stage)
            if self._ticker is None:
                self._ticker = _Ticker(self)
                self._ticker.start()

    def _end(self, stage: LiveStage, how: str) -> None:
        with self._lock:
            record = stage.finish()
            self.records.append(record)
            self._active.remove(stage)
            ticker, self._ticker = (
                (self._ticker, None) if not self._active else (None, self._ticker)
            )
            if not self._active and self._live is not None:
                with suppress(OSError, ValueError):
                    self._live.stop()
                self._live = None
            self.say(f"{stage.title}: {how}{sanitize.duration(record.seconds)}")
        if ticker is not None:
            ticker.stop()

    def tick(self) -> None:
        """Bring what is shown up to date; called a few times a second."""
        with self._lock, suppress(OSError, ValueError):
            if self._file.isatty():
                self._show()
            else:
                for stage in self._active:
                    self._log(stage)

    def _log(self, stage: LiveStage) -> None:
        if not stage.announced:
            if stage.elapsed >= QUICK_SECONDS:
                stage.announced = True
                self.say(stage.opening())
        elif time.monotonic() - stage.spoke >= self._heartbeat:
            stage.spoke = time.monotonic()
            self.say(stage.status())

    def _show(self) -> None:
        old = [stage for stage in self._active if stage.elapsed >= QUICK_SECONDS]
        if not old:
            return
        if self._live is None:
            # Only now: a warm run is over before it is worth loading this.
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(file=self._file, highlight=False),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(_text("\n".join(stage.status() for stage in old)), refresh=True)


class _Ticker(threading.Thread):
    """Calls `Progress.tick` until it is stopped."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(name="progress", daemon=True)
        self._progress = progress
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            self._progress.tick()

    def stop(self) -> None:
        """End the thread; it may be in the middle of a tick, so the caller holds no lock."""
        self._over.set()
        self.join()


def _text(line: str) -> Text:
    from rich.text import Text

    return Text(sanitize.clean(line), no_wrap=True, overflow="ellipsis")


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int | float) and not isinstance(item, bool) and item >= 0 for item in value
    )
