"""Names that moved to store, build, folders and images; this module goes when its last user has followed."""

from unveil.aos.build import build_stacks as build  # noqa: F401
from unveil.aos.folders import Choice, Folder, nearest, read_folder  # noqa: F401
from unveil.aos.images import person_mask, to_uint8  # noqa: F401
from unveil.aos.store import Store  # noqa: F401
from unveil.aos.store import Store as open  # noqa: F401
