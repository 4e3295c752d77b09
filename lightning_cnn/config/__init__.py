"""From files and flags to settings."""
