"""Image restoration: pairs, networks, training, metrics and inference for any image-to-image task."""
