"""What re-routing does to attention; what keys, values and vectors hold."""
