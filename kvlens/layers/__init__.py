"""From an ID profile to the layers; a route is a plain value."""
