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
  await buildPageAlone(join(work, "page"));
  copyRuntimes(join(work, "runtimes"));
}

/** Build the page into a folder; with a fault, where `wrong` stands for `right` in `src/FILE.ts`. */
export async function buildPageAlone(outDir, { file, right, wrong } = {}) {
  const plant = {
    name: "fault", enforce: "pre",
    transform(code, id) {
      if (!file || !id.endsWith(`/src/${file}.ts`)) return null;
      if (code.split(right).length !== 2) throw new Error(`src/${file}.ts does not hold once: ${right}`);
      return code.replace(right, wrong);
    },
  };
  await build({
    root: here("../packages/edgevl-web"), configFile: false, logLevel: "error", resolve: { conditions: ["onnxruntime-web-use-extern-wasm"] }, plugins: [plant],
    build: { outDir, target: "es2022", lib: { entry: here("../packages/edgevl-web/test/page.ts"), formats: ["es"], fileName: () => "page.mjs" } },
  });
  writeFileSync(join(outDir, "index.html"), '<!doctype html><title>tests</title><script type="module" src="/page/page.mjs"></script>');
}
