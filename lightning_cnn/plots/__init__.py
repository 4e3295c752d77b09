"""Pictures of runs and predictions, drawn from plain arrays."""
