import { defineConfig } from "vite";

/** The library for pages; workers are built by vite.workers.config.ts, each with its runtime inside. */
export default defineConfig({
  build: { lib: { entry: "src/index.ts", formats: ["es"], fileName: "index" }, target: "es2022", sourcemap: true, minify: false },
});
