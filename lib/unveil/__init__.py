"""unveil: Airborne Optical Sectioning, and networks that restore what the forest hides.

Three wings, imported one way: ``show`` (figures, widgets, slides) → ``restore`` (datasets, networks, training,
evaluation) → ``aos`` (cameras, archives, integrator, simulator, stacks, flights).
"""

__version__ = "1.0.0"
