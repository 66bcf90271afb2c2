"""Programs that train and run another library; they import nothing of this project, since each runs in its own venv.

    python PROGRAM train SENTENCES MODEL OPTIONS
    python PROGRAM predict MODEL OPTIONS

OPTIONS is a JSON object: the settings of the method, ``seed``, ``labels`` and ``backbone``. A sentence is
``{"words": [...], "spaces": [...], "spans": [[first word, last + 1, label], ...]}``. ``train`` reads a JSON line each
from the file SENTENCES, writes the folder MODEL, and ends with a line ``{"memory_mb": ...}``, which may say more of the
training. ``predict`` reads lines that each hold a JSON list of sentences, and answers each with a line of
``{"spans": [[...], ...], "memory_mb": ...}``; a span may have its probability as a fourth item. A program that fails
says why in the last line of its messages.
"""
