import { defineConfig } from "vite";

/** A classic script: LiteRT.js loads its WASM by `importScripts`, which module workers do not have. */
const runtime = process.env.EDGEVL_RUNTIME === "litert" ? "litert" : "onnx";

export default defineConfig({
  define: { "import.meta.url": "self.location.href" },
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm"] },
  build: {
    emptyOutDir: false,
    target: "es2022",
    lib: { entry: `src/worker_${runtime}.ts`, formats: ["iife"], name: "edgevlWorker", fileName: () => `worker-${runtime}.js` },
  },
});
