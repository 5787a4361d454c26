"""Cameras that never wait: the loop, streams to other programs, recordings, a demonstration."""
