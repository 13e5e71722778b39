"""Ends this process and its children in time after SIGTERM, SIGUSR1 or Ctrl-C, whatever hangs."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from src.machine import SIGNALS

STATUS = 128 + signal.SIGTERM  # a shell's status for a process that SIGTERM ended
GRACE = 10.0  # seconds from a signal to the end, for a batch that is under way, the children and the dashboards
JOIN = 1.0  # seconds for a killed child to end
_deferral: "Deferral | None" = None  # the one that has begun


class Deferral:
    """From `begin` to `end` the first signal is only kept in `number`, for a training that saves first, then stops.

    A second signal ends the process at once. The deadline holds as ever: `GRACE` seconds, none for SIGUSR1.
    """

    number = 0

    def begin(self) -> None:
        global _deferral
        if threading.current_thread() is threading.main_thread():
            _deferral = self

    def end(self) -> None:
        global _deferral
        _deferral = None


def stop(number: int, frame: FrameType | None) -> None:
    """Handles a signal: kills the data processes, and raises SystemExit with a shell's status for it, such as 143."""
    if _deferral is not None and not _deferral.number:
        _deferral.number = number
        return
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    kill_children()  # Lightning and Python would wait for a stopped one
    raise StoppedError(128 + number)


class StoppedError(SystemExit):
    """A signal is to end this process; the code is the status that a shell gives to it."""


@contextmanager
def ending_in_time() -> Iterator[None]:
    """Within the block a signal ends this process, and child processes end with the block.

    SIGTERM and Ctrl-C do so within `GRACE` seconds.

    The main thread raises SystemExit as soon as it runs Python code. A second thread, which the first byte of a pipe
    wakes, ends the process at the deadline: the main thread may wait in C++ for a process that is stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, stop)
    threading.Thread(target=_wait, args=(reader,), name="deadline", daemon=True).start()
    try:
        yield
    except StoppedError as error:
        kill_children()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(str(error)))  # Python takes seconds to free what torch holds, and no thread watches it then
    finally:
        kill_children()
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)
        os.close(writer)  # which ends the thread, if it has got no signal


def _wait(reader: int) -> None:
    """Ends the process `GRACE` seconds after the first signal."""
    while byte := os.read(reader, 1):
        if byte[0] in (signal.SIGTERM, signal.SIGINT):
            name = signal.Signals(byte[0]).name
            time.sleep(GRACE)
            print(f"error: not ended {GRACE:g} s after {name}, and so ended without more", file=sys.stderr, flush=True)
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(128 + byte[0])
    os.close(reader)


def kill_children() -> None:
    """Kills the data processes of this process, and waits for their end."""
    # torch's handler raises an error if one is killed, or has died of the same signal as this process.
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    children = multiprocessing.active_children()
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child.pid or 0, signal.SIGKILL)  # not its own method, which those of joblib lack
    for child in children:
        child.join(JOIN)
    signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)


def _forget() -> None:
    """Leaves, in a forked child, the pipe and the handlers to the parent."""
    with suppress(ValueError):
        if signal.getsignal(signal.SIGTERM) is stop:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)
