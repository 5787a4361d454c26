"""Rendered scenes with many heads, to train a head detector on.

`people` renders heads with shoulders as cut-out sprites, `things` what is no head (`objects`,
`animals` and their `paints`), and `sprites` keeps both on disk. `backgrounds`, `bodies` and
`compose` make a scene of them, `camera` photographs it, and `dataset` offers scenes as a dataset.
"""
