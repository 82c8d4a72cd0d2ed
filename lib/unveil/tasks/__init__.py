"""Where a forward model meets `restore`: one file or package per task."""
