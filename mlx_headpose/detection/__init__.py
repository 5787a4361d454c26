# Chosen on AFLW2000 (bench/speed/face_detector.py): the lowest with few boxes that are no faces.
DEFAULT_MIN_SCORE = 0.5
