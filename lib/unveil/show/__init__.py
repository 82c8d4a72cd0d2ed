"""What people see: figures, widgets and slides."""
