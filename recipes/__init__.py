"""How the shipped models are built from corpora: a folder a model, and what all of them need."""
