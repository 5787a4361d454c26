"""TokenHPE: orientation tokens in a vision transformer."""

# Commands of this method alone: name → line for --help. Each is a module here with a `run`.
COMMANDS = {"tokens": "draw what TokenHPE's orientation tokens look at"}
