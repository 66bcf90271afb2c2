"""retrieveall-mini: a small backbone from scratch, tuned on all languages together, with an adapter a language."""
