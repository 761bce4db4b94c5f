import { onnxRuntime } from "./runtimes/onnx.js";
import { serve } from "./serve.js";

serve(onnxRuntime);
