"""Predictions for image files of the user: `pipeline` reads, frames and classifies, `output` writes and draws."""
