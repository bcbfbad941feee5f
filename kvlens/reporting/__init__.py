"""A run folder: as one offline page, and whether it still agrees with what is here."""
