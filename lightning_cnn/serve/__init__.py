"""A server that answers with predictions, and a page to draw on. Needs the extra `serve`."""
