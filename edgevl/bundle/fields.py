"""The kinds of value that files of a bundle hold, each with its bounds, and the base of every section."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edgevl.apps.jetson.bundle_files import check_folder_name, check_relative
from edgevl.limits import NAME_PATTERN
from edgevl.precisions import PRECISIONS

if TYPE_CHECKING:
    Precision = str
else:
    Precision = Literal[tuple(PRECISIONS)]
DType = Literal["float32", "float16", "int32", "int64", "int8", "uint8"]

RelativePath = Annotated[str, AfterValidator(check_relative), Field(json_schema_extra={"format": "relative-path"})]
Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
Text = Annotated[str, Field(max_length=2000)]
FolderName = Annotated[Text, AfterValidator(check_folder_name), Field(json_schema_extra={"format": "folder-name"})]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=2**40)]
Macs = Annotated[int, Field(ge=0, le=2**53)]  # what every JSON reader holds exactly
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Real = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]


class Part(BaseModel):
    """Base of every section: immutable, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
