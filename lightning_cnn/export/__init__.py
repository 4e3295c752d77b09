"""Trained models as files for other programs, each of which is compared with the checkpoint it was made from."""
