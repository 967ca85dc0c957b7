"""The exception for mistakes of the person at the keyboard, and the one for work that has to end early."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something that was typed, or a file that was named, cannot be used.

    The message is one line that names the option or file and the valid choices. The command line prints
    it without a traceback and exits with code 2.
    """

    def __init__(self, message: str = "") -> None:
        """Line breaks become blanks: what a message quotes may hold some."""
        super().__init__(" ".join(message.splitlines()))


class Ended(BaseException):
    """This process has been asked to end (SIGTERM): a time limit, Ctrl-C, or a scheduler that wants its machine back.

    Raised once in the main thread, wherever that is, so that it passes through `Method.fit` and `Trial.fit`. A trial
    that can save a checkpoint catches it, saves, and raises it again; it has about `engines.local.GRACE` seconds.
    It is no `Exception`, so that nobody takes it for a failure: there will be no record, and the run is done again.
    """


def unknown(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """The error for a name that does not exist, with the nearest valid names first."""
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    shown = ", ".join(valid) if len(valid) <= 40 else f"{', '.join(valid[:40])}, ... ({len(valid)} in all)"
    return InputError(f"unknown {kind} '{name}': {hint}valid: {shown or 'none'}")
