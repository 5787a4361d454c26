"""The one exception that means "the user can mend this"."""


class InputError(ValueError):
    """Bad input: a missing folder, a foreign file, an impossible option.

    The message is one sentence that names the file and says what to do. The commands print it
    without a traceback and exit with code 2.
    """
