"""People under trees: what is fed to the networks, how they are trained, scored and applied."""
