__version__ = "0.1.0"
RENDERER = 4  # raised with each change of what the same settings render
