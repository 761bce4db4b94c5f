import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";
// @ts-expect-error a script without types
import { copyRuntimes } from "../packages/edgevl-web/bin/runtimes.mjs";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const out = process.env.EDGEVL_SITE ?? here("../../../edgevl/app/site");

function files(folder: string, at = folder): string[] {
  return readdirSync(at).flatMap((name) => (statSync(join(at, name)).isDirectory() ? files(folder, join(at, name)) : [relative(folder, join(at, name))]));
}

/** Workers and WASM beside the app, and a list of the app's own files for the service worker. */
const assets = (): Plugin => ({
  name: "edgevl-assets",
  closeBundle() {
    const own = files(out).filter((name) => !name.startsWith("edgevl/") && name !== "sw.js" && name !== "shell.json" && name !== "index.html");
    writeFileSync(join(out, "shell.json"), JSON.stringify(own.sort()));
    (copyRuntimes as (target: string) => void)(join(out, "edgevl"));
  },
});

export default defineConfig({
  base: "./",
  resolve: { alias: { "edgevl-web": here("../packages/edgevl-web/src/index.ts") } },
  server: { headers: { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" } },
  build: { outDir: out, emptyOutDir: true, target: "es2022", assetsInlineLimit: 0 },
  plugins: [assets()],
});
