"""Pictures and texts of the user's own: a table beside photos, or the folder that `edgevl data import` makes of one."""

from edgevl.data.photos.dataset import Entry, PhotoQuestion, Photos
from edgevl.data.photos.folder import is_data_folder, open_folder
from edgevl.data.photos.importing import import_table
from edgevl.data.photos.reading import open_table

__all__ = ["Entry", "PhotoQuestion", "Photos", "import_table", "is_data_folder", "open_folder", "open_table"]
