"""Measures of a model that PAN-X does not give: running text, ordinary texts, borders of sentences, speed, and peers.

Tooling of the project, not part of the product. ``python -m recipes.measure`` measures a model,
``python -m recipes.measure.peers`` other libraries on the same running text, and ``python -m recipes.measure.tables``
prints saved results side by side.
"""
