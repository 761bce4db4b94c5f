// The C API of ONNX Runtime. Nothing is linked: EdgeVLOnnx loads the library by itself, after it made sure that the
// library, once loaded, reports nothing.
#include <onnxruntime_c_api.h>
