"""A run folder becomes one offline page."""
