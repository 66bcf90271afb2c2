"""The model in other libraries' shapes: spaCy, Hugging Face pipelines and data sets, GLiNER, Label Studio.

Each module imports its library when it is imported itself; this one imports nothing.
"""
