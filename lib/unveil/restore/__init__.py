"""Image restoration: data sets, networks, training and evaluation for any image-to-image task."""
