"""Runs side by side: what several run folders say of the same things."""
