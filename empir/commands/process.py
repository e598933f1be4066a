"""A command as a process: its signals, its streams, its exit status and its one line of error.

Imports neither TensorFlow nor NumPy, so that a wrong environment is told in one line.
"""

import contextlib
import errno
import gc
import logging
import os
import re
import signal
import sys
import threading
import traceback

from empir.errors import EmpirError

log = logging.getLogger("empir")

#: Exit status of bad input and of what the machine refuses; a signal's is 128 and its number.
BAD = 2

#: What an interrupted command says of how to go on.
GO_ON = "the same command goes on from what it kept, attack scripts with --resume"

#: Signals that end a command in order, and how it calls them.
SIGNALS = {
    "SIGINT": "interrupted",
    "SIGTERM": "terminated",
    "SIGHUP": "hung up",
    "SIGQUIT": "quit",
}

#: Seconds after which a signal that came during an import is tried again.
AGAIN = 0.05

#: Seconds that a signal waits for the interpreter, which hears of it only once a call of TensorFlow
#: has returned. That may take ten minutes.
PATIENCE = 2.0

#: What would break a line, or make a terminal do something: controls, line separators, and marks of
#: the writing direction.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Signalled(KeyboardInterrupt):
    """A signal of `SIGNALS` has come.

    Args:
      number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__()
        self.number = number

    def __str__(self):
        return f"{SIGNALS[signal.Signals(self.number).name]}; {GO_ON}"


def exit_with(run):
    """Exit with `run()`'s status; what is no defect of the program is one line, not a traceback.

    Bad input (`EmpirError`), a file or a disk that refuses, and too little memory end in one line
    on standard error and status 2. A signal that ends the process ends it in order: `run` is left
    by an exception, so that what it has finished is kept, one line says how to go on, and the
    status is 128 and the signal's number. If that cannot be because TensorFlow is computing, the
    process ends where it is, with the same line and status: what it has finished is in its files.
    Output that nobody reads ends it silently with the status
    of SIGPIPE, 141; output that cannot be written is an error.
    """
    stdout = sys.stdout
    with _signals():
        try:
            _prepare()
            status = run()
        except SystemExit as error:
            status = error.code
        except BaseException as error:
            status = _told(error)
        lost = _flush()
        if lost is not None and not status:
            status = _output_error(lost)
    sys.stdout = stdout
    sys.exit(status)


def complain(message: str, status: int = BAD) -> int:
    """Print a message as one line on standard error; returns the exit status."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        sys.stderr.flush()
        print("error: " + one_line(message), file=sys.stderr)
        sys.stderr.flush()
    return status


def one_line(text: str) -> str:
    """A text whose control characters and line breaks are escaped as in Python."""
    return _CONTROLS.sub(lambda found: repr(found.group())[1:-1], text)


class OutputError(OSError):
    """Standard output cannot be written."""


class _Output:
    """Standard output, whose errors are told from those of other files."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        """Write text; `OutputError` if the stream does not take it."""
        with self._told():
            return self._stream.write(text)

    def flush(self):
        """Write what is buffered; `OutputError` if the stream does not take it."""
        with self._told():
            self._stream.flush()

    @contextlib.contextmanager
    def _told(self):
        try:
            yield
        except OSError as error:
            raise OutputError(error.errno, error.strerror)

    def __getattr__(self, name):
        return getattr(self._stream, name)


class _Plain(logging.Formatter):
    """A message without its level; what is no new line or tab is escaped."""

    def format(self, record):
        """The message of a log record, ready for a terminal."""
        text = super().format(record)
        return "\n".join("\t".join(map(one_line, s.split("\t"))) for s in text.split("\n"))


#: Thresholds of `gc`. Modules and graphs are many objects that stay: to look among them for garbage
#: as often as Python does by default takes a noticeable part of a short run.
GARBAGE = (50000, 20)


def _prepare():
    """Standard streams that take everything, the log on standard error, and rare collections."""
    gc.set_threshold(*GARBAGE)
    # A missing stream's number would be given to the next file that is opened.
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    if sys.stdout is None:
        raise EmpirError("standard output is closed: redirect it, to /dev/null if need be")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # characters that its encoding lacks
    sys.stdout = _Output(sys.stdout)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.raiseExceptions = False  # a log line that nobody reads is no error


@contextlib.contextmanager
def _signals():
    """`Signalled` is raised by the signals of `SIGNALS` that are not ignored, as under nohup."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    heard = threading.Event()

    def interrupt(number, frame):
        heard.set()
        if number == signal.SIGALRM:
            number = waiting.pop()
        if _is_import(frame):
            waiting[:] = [number]
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
            return
        raise Signalled(number)

    waiting = []
    for name in list(SIGNALS) + ["SIGALRM"]:
        number = getattr(signal, name)
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, interrupt)
    try:
        with _ended_if_unheard(set(before) - {signal.SIGALRM}, heard):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _ended_if_unheard(numbers, heard):
    """End the process if it gets one of these signals and `heard` is not set `PATIENCE` later.

    A thread waits for the bytes that Python writes to a pipe as soon as a signal comes.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)

    def watch():
        while True:
            number = os.read(read, 1)[0]
            if number == 0:
                return
            if number in numbers and not heard.wait(PATIENCE):
                os._exit(complain(str(Signalled(number)), 128 + number))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    former = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        os.write(write, b"\0")
        watching.join()
        os.close(read)
        os.close(write)


def _is_import(frame):
    """Whether a module is being imported: many swallow whatever is raised meanwhile."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _told(error):
    """Exit status of an exception, which is told on standard error; a defect is raised again."""
    if log.isEnabledFor(logging.DEBUG):
        traceback.print_exception(type(error), error, error.__traceback__)
    if isinstance(error, EmpirError):
        return complain(str(error))
    if isinstance(error, KeyboardInterrupt):
        signalled = error if isinstance(error, Signalled) else Signalled(signal.SIGINT)
        return complain(str(signalled), 128 + signalled.number)
    if isinstance(error, OutputError):
        return _output_error(error)
    if isinstance(error, OSError):
        return complain(_os_error(error))
    if isinstance(error, MemoryError):
        return complain(_NO_MEMORY)
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(error, tensorflow.errors.OpError):
        message = str(error.message).strip().split("\n")[0]
        return complain(_NO_MEMORY if message.startswith("OOM") else "TensorFlow: " + message)
    raise error


_NO_MEMORY = "there is not enough memory: take a smaller batch, fewer images or fewer threads"


def _os_error(error):
    """What an OSError says, without its number and with its paths."""
    paths = (error.filename, error.filename2)
    paths = [os.fsdecode(path) for path in paths if isinstance(path, (str, bytes))]
    return ": ".join([" and ".join(paths)] * bool(paths) + [error.strerror or str(error)])


def _output_error(error):
    if error.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    return complain(f"standard output cannot be written: {error.strerror}")


def _flush():
    """Write out standard output; returns the OSError if that fails, and gives it up."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # or else Python tries again at its end
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
        return error
    except (AttributeError, ValueError):  # there is none, or it is closed
        return None
    return None
