"""What a scene of many heads teaches a detector: rows of values, one for each head.

A row is the box of the head and the box of its face (x_min, y_min, x_max, y_max each, in pixels),
cos and sin of the yaw, and what it is.
"""

TARGET = 11  # values in a row
MAX_HEADS = 12  # rows of a scene; rows of zeros are unused
HEAD, IGNORE = 1.0, -1.0  # the last value: a head, or a region in which nothing is learnt
