"""Airborne Optical Sectioning: from ZIP archives of single views to focal stacks."""
