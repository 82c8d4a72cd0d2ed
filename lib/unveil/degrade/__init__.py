"""Forward models: ``y = operator(x, rng)``, small enough to read, and chained with ``|``."""
