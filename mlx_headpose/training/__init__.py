"""Training any estimator on any dataset: the step, the loop, checkpoints, several processes."""
