# Seconds that a track is carried without a face, unless the user says otherwise.
CARRY_S = 2.5
DEMO = "demo"  # names a rendered head in place of a camera
# What may smooth angles over time.
SMOOTHING = ("one-euro", "predictive", "none")
