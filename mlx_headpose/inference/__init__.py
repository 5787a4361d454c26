# Seconds that a track is carried without a face, unless the user says otherwise.
CARRY_S = 2.5
