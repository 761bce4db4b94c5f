#!/usr/bin/env node
// npx edgevl-web-runtimes FOLDER [onnx|litert]: copies the workers and the WASM of the runtimes to where a page serves them.
import { copyFileSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const RUNTIMES = {
  onnx: { from: "onnxruntime-web", folder: "dist", to: "ort", files: /^ort-wasm-simd-threaded\.(mjs|wasm)$/ },
  litert: { from: "@litertjs/core", folder: "wasm", to: "litert", files: /^litert_wasm_(compat_|threaded_)?internal\.(js|wasm)$/ },
};

/** The folder of an installed package. */
function packageFolder(name) {
  const require = createRequire(import.meta.url);
  for (let folder = dirname(require.resolve(name)); folder !== dirname(folder); folder = dirname(folder)) {
    if (folder.endsWith(join("node_modules", ...name.split("/")))) return folder;
  }
  throw new Error(`${name} is not installed`);
}

export function copyRuntimes(target, only) {
  const built = fileURLToPath(new URL("../dist/", import.meta.url));
  for (const [name, { from, folder, to, files }] of Object.entries(RUNTIMES)) {
    if (only && only !== name) continue;
    const source = join(packageFolder(from), folder);
    mkdirSync(join(target, to), { recursive: true });
    for (const file of readdirSync(source).filter((each) => files.test(each))) copyFileSync(join(source, file), join(target, to, file));
    copyFileSync(join(built, `worker-${name}.js`), join(target, `worker-${name}.js`));
  }
  copyFileSync(fileURLToPath(new URL("NOTICES.txt", import.meta.url)), join(target, "NOTICES.txt"));
}

if (process.argv[1] && fileURLToPath(import.meta.url).endsWith("runtimes.mjs") && /runtimes(\.mjs)?$/.test(process.argv[1])) {
  const [target, only] = process.argv.slice(2);
  if (!target || (only && !(only in RUNTIMES))) {
    console.error("usage: edgevl-web-runtimes FOLDER [onnx|litert]");
    process.exit(2);
  }
  if (!existsSync(target)) mkdirSync(target, { recursive: true });
  copyRuntimes(target, only);
}
