"""unveil: Airborne Optical Sectioning, and networks that restore what forests, noise, optics and age hide.

Four wings that never import one another, ``aos`` (the forest), ``degrade`` (every other forward model), ``restore``
(pairs, networks, training, metrics) and ``show`` (figures, widgets, slides); ``tasks`` where they meet; the notebooks
and the commands of ``python -m unveil`` on top.
"""

__version__ = "1.0.0"
