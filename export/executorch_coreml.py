"""The Core ML delegate of ExecuTorch: what it may take, and its payload without random names."""

import hashlib
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgevl.errors import MissingDependency
from edgevl.export.to_coreml import make_reproducible
from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools

# coremltools refuses a uint8 tensor at the border of a delegate (KeyError: torch.uint8) and makes a bool one float32,
# which ExecuTorch does not expect. So pixels and the mask become floats before Core ML gets them.
_OUTSIDE = ["aten.ne.scalar", "aten._to_copy.default", "dim_order_ops._to_dim_order_copy.default"]


def coreml_partitioner() -> Any:
    """A partitioner for everything but casts, in float32. Raises `MissingDependency` without coremltools."""
    ct = import_coremltools("export to ExecuTorch's Core ML delegate")
    try:
        with quiet_coremltools():
            from executorch.backends.apple.coreml.compiler import CoreMLBackend
            from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    except ImportError as error:
        raise MissingDependency("executorch", "executorch", "export to ExecuTorch's Core ML delegate") from error
    specs = CoreMLBackend.generate_compile_specs(
        compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS16
    )
    return CoreMLPartitioner(skip_ops_for_coreml_delegation=_OUTSIDE, compile_specs=specs)


@contextmanager
def reproducible_coreml() -> Iterator[None]:
    """Within the block, the Core ML backend writes payloads whose bytes depend on the model only, and says nothing.

    ExecuTorch 1.5 names each payload by a random number, which is also the key of the cache of compiled models on the
    device, and packs coremltools' dated metadata and debug tables with it. Here the name is a digest of the package.
    """
    with quiet_coremltools():
        from executorch.backends.apple.coreml.compiler import CoreMLBackend

        original = CoreMLBackend.preprocess_model
        CoreMLBackend.preprocess_model = staticmethod(_preprocess)
        try:
            yield
        finally:
            CoreMLBackend.preprocess_model = original


def _preprocess(mlmodel: Any, model_type: Any) -> Any:
    """The payload of one delegate: the package and `metadata.json`, packed as ExecuTorch's runtime unpacks them."""
    from executorch.backends.apple.coreml import executorchcoreml
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.exir.backend.backend_details import PreprocessResult

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "lowered_module"
        root.mkdir()
        package = root / "model.mlpackage"
        mlmodel.save(str(package))
        spec = mlmodel.get_spec()
        make_reproducible(package, spec)
        metadata = CoreMLBackend.model_metadata_from_spec(spec, f"executorch_{_identifier(package)}")
        CoreMLBackend.save_model_metadata(metadata, root)
        return PreprocessResult(processed_bytes=executorchcoreml.flatten_directory_contents(str(root)) or b"")


def _identifier(package: Path) -> uuid.UUID:
    total = hashlib.sha256()
    for file in sorted(file for file in package.rglob("*") if file.is_file()):
        total.update(file.read_bytes())
    return uuid.UUID(bytes=total.digest()[:16])
