"""Values that are saved and loaded equal, whole or not at all."""
