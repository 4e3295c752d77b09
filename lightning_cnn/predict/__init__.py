"""What is done with image files of the user's own: read, framed, predicted."""
