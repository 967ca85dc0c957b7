"""The one exception for mistakes of the person at the keyboard."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something that was typed, or a file that was named, cannot be used.

    The message is one line that names the option or file and the valid choices. The command line prints
    it without a traceback and exits with code 2.
    """


def unknown(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """The error for a name that does not exist, with the nearest valid names first."""
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    shown = ", ".join(valid) if len(valid) <= 40 else f"{', '.join(valid[:40])}, ... ({len(valid)} in all)"
    return InputError(f"unknown {kind} '{name}': {hint}valid: {shown or 'none'}")
