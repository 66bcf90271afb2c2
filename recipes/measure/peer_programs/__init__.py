"""Programs that run another library; they import nothing of this project, since each runs in a venv of its own.

A program reads texts from standard input, a JSON string a line. It writes for each text a line with a JSON list of
``[start, end, label]``, with the labels of the library, and at last a JSON object with its speed and memory.
"""
