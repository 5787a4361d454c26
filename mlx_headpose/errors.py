"""The one exception that means "the user can fix this"."""

# Longer messages quote something that is not meant to be read.
MAX_LENGTH = 600


class InputError(ValueError):
    """Bad input: a missing folder, a foreign file, an impossible option.

    The message is one sentence that names the file and says what to do. The commands print it
    without a traceback and exit with code 2. What it quotes of untrusted files may hold line
    breaks, control characters and megabytes: it becomes one printable line.
    """

    def __init__(self, message: str):
        line = " ".join(message[: 2 * MAX_LENGTH].split())
        line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
        super().__init__(line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 2]} …")
