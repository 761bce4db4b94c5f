// How tests start Chromium, what page they load, and when the app is ready.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { build } from "vite";
import { copyRuntimes } from "../packages/edgevl-web/bin/runtimes.mjs";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--js-flags=--expose-gc"];

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** Start Chromium: CHROMIUM, or the one of Debian. */
export const launch = (...more) => chromium.launch({ executablePath, args: [...FLAGS, ...more] });

/** With a profile in a folder, as a person has one: nothing is installed from a private window. */
export const launchAsPerson = (profile, more) => chromium.launchPersistentContext(profile, { executablePath, args: [...FLAGS, ...more] });

/** Wait until the app has a model, or says that it has none. */
export const opened = (page) => page.waitForFunction(() => /runs in this browser|No model is open/.test(document.querySelector("#about")?.textContent), null, { timeout: 60_000 });

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** Build the page of the tests into `page` and the runtimes into `runtimes`, below a folder. */
export async function buildPage(work) {
  await build({
    root: here("../packages/edgevl-web"), configFile: false, logLevel: "error", resolve: { conditions: ["onnxruntime-web-use-extern-wasm"] },
    build: { outDir: join(work, "page"), target: "es2022", lib: { entry: here("../packages/edgevl-web/test/page.ts"), formats: ["es"], fileName: () => "page.mjs" } },
  });
  copyRuntimes(join(work, "runtimes"));
  writeFileSync(join(work, "page", "index.html"), '<!doctype html><title>tests</title><script type="module" src="/page/page.mjs"></script>');
}
