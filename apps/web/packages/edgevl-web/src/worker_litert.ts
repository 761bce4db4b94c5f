import { liteRtRuntime } from "./runtimes/litert.js";
import { serve } from "./serve.js";

serve(liteRtRuntime);
