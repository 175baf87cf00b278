# SPDX-License-Identifier: GPL-2.0-only
"""Report the progress of a run on stderr: a live display on a terminal, else plain lines.

Each stage prints a line at its end. A stage that takes longer than QUICK_SECONDS is also shown
while it runs, with the time that it took in earlier runs: on a terminal by a line that is updated,
else (in the log of a CI system) by a line at its start and one every HEARTBEAT_SECONDS.
"""

from __future__ import annotations

import json
import statistics
import sys
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
    """Store how long the stages of the last runs took, in a JSON file in the cache (``path``).

    A key is the name of a stage with its kind ("build 7.3 plain"). If the file is missing or
    damaged, stages have no expected time; if it is not writable, nothing is stored. No error is
    raised.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache.root() / "timings.json" if path is None else path

    def expected(self, key: str) -> float | None:
        """Return the median of the last durations of the stage ``key`` in seconds; None if none."""
        seen = self._read().get(key)
        return statistics.median(seen) if seen else None

    def learn(self, key: str, seconds: float) -> None:
        """Store that the stage ``key`` took ``seconds``; keep the last KEPT_TIMINGS durations."""
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
        # One name for all runs: what a killed run leaves here, the next one replaces. If two write
        # at once, the file may be damaged; then the expected times are unknown once.
        partial = self.path.with_name(f".{self.path.name}.new")
        try:
            partial.write_text(content, encoding="utf-8")
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)


class LiveStage:
    """A running stage; implements `kpatch.lib.stage.Stage`.

    The stage's code sets ``cached`` if its result was in the cache. ``record`` is None until the
    stage has ended.
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
        """Set the description of the current step, which `status` shows."""
        self._note = text

    def say(self, text: str) -> None:
        """Print ``text`` at once, after the stage's title; also use it as the `note`."""
        self.note(text)
        self._progress.say(f"{self.title}: {text}")

    def advance(self, done: float, total: float | None) -> None:
        """Report that ``done`` of ``total`` units are finished; None if the total is unknown."""
        self._share = min(1.0, max(0.0, done / total)) if total else None

    def command(self, argv: Sequence[str], *, cwd: Path | None = None) -> None:
        """Record a command that repeats this stage or a part of it; print it if ``echo`` is set."""
        line = shell_line(argv, cwd=cwd)
        self._commands.append(line)
        if self._echo:
            self._progress.say(f"  $ {line}")

    @property
    def title(self) -> str:
        """Return the stage's name, followed by its series if it has one."""
        return f"{self.name} {self.series}" if self.series else self.name

    @property
    def elapsed(self) -> float:
        """Return the seconds since the stage began."""
        return time.monotonic() - self.began

    def status(self) -> str:
        """Return one line: title, elapsed time, and if known expected time, percentage and step."""
        about = f" of about {sanitize.duration(self.expected)}" if self.expected else ""
        share = f", {self._share:.0%}" if self._share is not None else ""
        note = sanitize.line(self._note)
        doing = f", {note}" if note else ""
        return f"{self.title}: {sanitize.duration(self.elapsed)}{about}{share}{doing}"

    def opening(self) -> str:
        """Return the line that announces the stage in a log, with its expected time if known."""
        about = f", about {sanitize.duration(self.expected)}" if self.expected else ""
        return f"{self.title}: started{about}"

    def finish(self) -> StageRecord:
        """Make the record of the stage, which has ended; store it in ``record`` and return it."""
        self.record = StageRecord(
            self.name, self.series, round(self.elapsed, 3), self.cached, tuple(self._commands)
        )
        return self.record


class Progress:
    """Display the stages of a run; several may run at the same time, in different threads.

    ``records`` are the stages that have ended, also those that failed. ``echo`` prints every
    command. Errors in writing to ``file`` (a closed pipe) are ignored.
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
        """Run the block as a stage; yield the object to which the block reports its progress.

        The expected time is that of earlier stages with the same ``name`` and ``kind`` that neither
        failed nor were cached. Example: name ``build``, series ``netlink``, kind ``7.3 plain``.
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
        """Print a line, above the live display if there is one."""
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
        """Update the live display, or print the lines that are due; called every TICK_SECONDS."""
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
            # Imported here: a warm run ends before it needs this, and loading it takes time.
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
    """A thread that calls `Progress.tick` until it is stopped."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(name="progress", daemon=True)
        self._progress = progress
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            self._progress.tick()

    def stop(self) -> None:
        """End the thread and wait for it.

        The caller must not hold the lock of `Progress`: the thread may wait for it in a tick.
        """
        self._over.set()
        self.join()


def _text(line: str) -> Text:
    from rich.text import Text

    return Text(sanitize.clean(line), no_wrap=True, overflow="ellipsis")


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int | float) and not isinstance(item, bool) and item >= 0 for item in value
    )
