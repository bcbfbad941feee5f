"""mteb's tasks and scores, with intervals; a stopped run resumes."""
