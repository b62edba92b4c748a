"""The places of a service: many clients' streams as the rows of one, advanced together by one worker thread."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import cylstm


class Full(Exception):
    """No place or no queue is left; the message says which. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooFast(Full):
    """A client has sent more steps than may wait for one session."""


class Gone(Exception):
    """There is no such session: it was closed, has been idle for too long, or never was."""


@dataclass(eq=False)
class Session:
    name: str
    row: int
    used: float  # by the clock of time.monotonic
    steps: int = 0
    waiting: int = 0
    is_open: bool = True


@dataclass(eq=False)
class Step:
    session: Session
    x: np.ndarray
    came: float
    result: asyncio.Future[tuple[list[float], int]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Places:
    """Sessions, each with a row of one stream, and the queue of their steps.

    Everything but `_advance` runs on the event loop. `_advance` runs on the worker thread, one call at a time; what a
    step waits for is the call that runs when it comes, and then its own.

    Parameters
    ----------
    model : cylstm.Model
        Of one input and one output, whose first step has an output.
    batch : int
        How many sessions there may be.
    most_waiting : int
        Steps of all sessions that may wait.
    idle_seconds : float
        After so long without a step a session is closed.
    kept : path, optional
        Where `stop` writes the states of all sessions, and from where they are taken up again.
    observe : callable, optional
        Called after each advance with the number of rows, the seconds it took, and the seconds of each step from
        coming in to its result.
    """

    WAITING_PER_SESSION = 16

    def __init__(
        self,
        model: cylstm.Model,
        batch: int = 512,
        most_waiting: int = 2048,
        idle_seconds: float = 300.0,
        kept: Path | None = None,
        observe: Callable[[int, float, list[float]], None] | None = None,
    ) -> None:
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ValueError(f"the service takes networks of one input and one output, not {model!r}")
        self.model, self.batch, self.idle_seconds, self.observe = model, batch, idle_seconds, observe
        self.stream = model.stream(batch, window=None)
        if self.stream.warm_up:
            raise ValueError(f"the first {self.stream.warm_up} steps of this network have no output to send")
        self.most_waiting = most_waiting
        self.sessions: dict[str, Session] = {}
        self.free = deque(range(batch))
        self.queue: deque[Step] = deque()
        self.is_stopping = False
        self._kept = kept
        self._fresh: set[int] = set()  # rows that begin again before their next step
        self._wake = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="places")
        self._x: np.ndarray | None = None  # (batch, features): made by the first step, of its dtype
        self._active = np.zeros(batch, bool)
        self._task: asyncio.Task[None] | None = None

    # ---- what clients do ----

    def open(self) -> Session:
        """A place for a new client. Raises `Full`."""
        if self.is_stopping:
            raise Full("the service is stopping", 5)
        if not self.free:
            raise Full(f"all {self.batch} places are taken", max(1, round(self.idle_seconds / 10)))
        row = self.free.popleft()
        self._fresh.add(row)
        session = Session(secrets.token_urlsafe(12), row, time.monotonic())
        self.sessions[session.name] = session
        return session

    def find(self, name: str) -> Session:
        """Raises `Gone`."""
        try:
            return self.sessions[name]
        except KeyError:
            raise Gone("there is no such session; it may have been idle for too long: open another one") from None

    async def step(self, session: Session, x: object) -> tuple[list[float], int]:
        """The prediction for a client's next step, and which step of the session it is.

        Steps of one session are computed in the order in which they come.

        Raises
        ------
        cylstm.ShapeError
            If x is no step of finite numbers: nothing was queued.
        Full, Gone
        """
        row = self.model.check_step(x, finite=True)
        if self.is_stopping:
            raise Full("the service is stopping", 5)
        if session.waiting >= self.WAITING_PER_SESSION:
            raise TooFast(f"{session.waiting} steps of this session are waiting; wait for their results", 1)
        if len(self.queue) >= self.most_waiting:
            raise Full(f"{len(self.queue)} steps are waiting", 1)
        if not session.is_open:
            raise Gone("this session is closed")
        step = Step(session, row, time.monotonic())
        session.used = step.came
        session.waiting += 1
        self.queue.append(step)
        self._wake.set()
        return await asyncio.shield(step.result)  # a client that goes away leaves the step in its batch

    def close(self, session: Session) -> None:
        """Free the place; what waits is not computed."""
        if session.is_open:
            session.is_open = False
            del self.sessions[session.name]
            if not session.waiting:
                self.free.append(session.row)

    # ---- what the service does ----

    async def start(self) -> None:
        if self._kept is not None and self._kept.exists():
            self._take_up()
        self._task = asyncio.create_task(self._run())
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Refuse what comes from now on, compute what waits, and keep the states."""
        self.is_stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._sweeper.cancel()
        self._worker.shutdown()
        if self._kept is not None:
            self._keep()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self.is_stopping and not self.queue):
            if not self.queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            steps = self._gather()
            fresh, self._fresh = self._fresh, set()
            began = time.monotonic()
            try:
                results, errors, ended = await loop.run_in_executor(self._worker, self._advance, fresh)
            except Exception as error:  # such as no memory: nothing has advanced
                self._fresh |= fresh
                results, errors, ended = {}, dict.fromkeys((step.session.row for step in steps), error), began
            for step in steps:
                self._hand_out(step, results.get(step.session.row), errors.get(step.session.row))
            if self.observe is not None:
                now = time.monotonic()
                self.observe(len(steps), ended - began, [now - step.came for step in steps])

    def _gather(self) -> list[Step]:
        """The first step of every session that has one waiting; the others stay in the queue, in their order."""
        self._active[:] = False
        steps, left = [], deque()
        for step in self.queue:
            if not step.session.is_open:
                self._drop(step, Gone("this session was closed"))
            elif self._active[step.session.row]:
                left.append(step)
            else:
                if self._x is None:
                    self._x = np.zeros((self.batch, *step.x.shape), step.x.dtype)
                self._x[step.session.row] = step.x
                self._active[step.session.row] = True
                steps.append(step)
        self.queue = left
        return steps

    def _advance(self, fresh: set[int]) -> tuple[dict[int, list[float]], dict[int, Exception], float]:
        """On the worker thread: one step of all active rows; the results by row, errors, and when it was done."""
        if fresh:
            self.stream.reset(sorted(fresh))
        errors: dict[int, Exception] = {}
        y = self.stream.step(self._x, active=self._active, errors=errors)
        rows = np.flatnonzero(self._active)
        results = y.reshape(self.batch, -1)[rows]
        for row in rows[~np.isfinite(results).all(axis=1)]:
            errors.setdefault(int(row), ArithmeticError("the network's result is not finite; the session is closed"))
        return dict(zip(rows.tolist(), results.tolist(), strict=True)), errors, time.monotonic()

    def _hand_out(self, step: Step, result: list[float] | None, error: Exception | None) -> None:
        if error is not None:
            self._drop(step, error)
            if isinstance(error, ArithmeticError):
                self.close(step.session)
            return
        self._leave(step)
        step.session.steps += 1
        if not step.result.done():
            step.result.set_result((result or [], step.session.steps))

    def _drop(self, step: Step, error: Exception) -> None:
        self._leave(step)
        if not step.result.done():
            step.result.set_exception(error)
            step.result.exception()  # whoever waited may be gone; then nobody asks

    def _leave(self, step: Step) -> None:
        session = step.session
        session.waiting -= 1
        session.used = time.monotonic()
        if not session.is_open and not session.waiting:
            self.free.append(session.row)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(self.idle_seconds / 4, 5.0))
            oldest = time.monotonic() - self.idle_seconds
            for session in [one for one in self.sessions.values() if one.used < oldest and not one.waiting]:
                self.close(session)

    # ---- over a restart ----

    def _keep(self) -> None:
        """Write the sessions and their states: the old file or the new one, never half of it."""
        assert self._kept is not None
        sessions = [one for one in self.sessions.values() if one.steps]  # the others begin at zero anyway
        arrays = {}
        if sessions:
            state = self.stream.copy([one.row for one in sessions]).state
            arrays = {f"{n}.{k}": array for n, parts in enumerate(state) for k, array in enumerate(parts)}
        text = json.dumps([[one.name, one.steps] for one in sessions])
        new = self._kept.with_name(self._kept.name + ".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            np.savez(file, sessions=np.array(text), **arrays)
        os.replace(new, self._kept)

    def _take_up(self) -> None:
        """Go on with the sessions that `_keep` wrote. Raises `cylstm.ShapeError` if they are of another model."""
        with np.load(self._kept, allow_pickle=False) as file:
            sessions = json.loads(str(file["sessions"]))
            names = sorted(
                (name for name in file.files if name != "sessions"), key=lambda name: [*map(int, name.split("."))]
            )
            state: dict[int, list[np.ndarray]] = {}
            for name in names:
                state.setdefault(int(name.split(".")[0]), []).append(file[name])
        if len(sessions) > self.batch:
            raise ValueError(f"{self._kept} holds {len(sessions)} sessions, more than the {self.batch} places")
        if sessions:
            self.stream.replace(range(len(sessions)), [tuple(parts) for parts in state.values()])
        for name, steps in sessions:
            row = self.free.popleft()
            self.sessions[name] = Session(name, row, time.monotonic(), steps)
