// What the library and the app do in a real browser: node test/chromium.mjs. Needs Chromium (CHROMIUM, or /usr/bin/chromium).
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testApp, testSearch } from "./app.mjs";
import { buildPage, buildPageAlone, launch } from "./browser.mjs";
import { testLiteRt, withoutRelaxedSimd } from "./litert.mjs";
import { liteRtBundle, suiteFolder } from "./suite.mjs";
import { testUse } from "./use.mjs";
import { serveFolders } from "./server.mjs";

let failures = 0;

export function check(name, fine, detail = "") {
  console.log(`${fine ? "ok  " : "FAIL"} ${name}${detail ? `: ${detail}` : ""}`);
  if (!fine) failures++;
}

const work = mkdtempSync(join(tmpdir(), "edgevl-web-"));
await buildPage(work);
const suite = suiteFolder();
const more = Object.fromEntries((process.env.EDGEVL_BUNDLES ?? "").split(":").filter(Boolean).map((path) => [`/more/${path.split("/").pop()}/`, path]));
const liteRt = liteRtBundle();
if (liteRt) more["/litert/"] = liteRt;
withoutRelaxedSimd(join(work, "runtimes"), join(work, "old"));
const folders = { "/page/": join(work, "page"), "/runtimes/": join(work, "runtimes"), "/old/": join(work, "old"), "/suite/": suite, ...more };
const server = await serveFolders(folders);
const browser = await launch();
try {
  if (!process.env.EDGEVL_ONLY_APP) await testLibrary();
  if (!process.env.EDGEVL_ONLY_APP) await testFaults();
  if (liteRt) await testLiteRt(check, server);
  else console.log("     LiteRT was not tried: edgevl exports no bundle for it here (pip install \"edgevl[litert]\")");
  await testApp(browser, check, process.env.EDGEVL_APP_BUNDLE);
  await testSearch(browser, check, suite);
  await testUse(browser, check, suite);
} finally {
  await browser.close();
  server.close();
}
if (failures) {
  console.log(`${failures} failed`);
  process.exitCode = 1;
}

/** Faults in what only a browser runs: the suite must find each. */
async function testFaults() {
  const faults = [
    ["colors are converted", { file: "decode", right: 'type, colorSpaceConversion: "none" });', wrong: 'type, colorSpaceConversion: "default" });' }],
    ["no EXIF of a JPEG", { file: "decode", right: "data: out, orientation: orientation(data)", wrong: "data: out, orientation: 1" }],
  ];
  for (const [n, [name, fault]] of faults.entries()) {
    await buildPageAlone(join(work, `fault${n}`), fault);
    folders["/page/"] = join(work, `fault${n}`);
    const page = await browser.newPage();
    await page.goto(`${server.url}/page/`);
    await page.waitForFunction(() => "edgevlTest" in globalThis);
    const { problems } = await page.evaluate(() => globalThis.edgevlTest.conformance("pixels", true));
    check(`a planted fault is found: ${name}`, problems.length > 0, problems[0]);
    await page.close();
  }
  folders["/page/"] = join(work, "page");
}

async function testLibrary() {
  const page = await (await browser.newContext()).newPage();
  page.on("console", (message) => message.type() === "error" && !/INFO:|WARNING:|404/.test(message.text()) && console.log("  console:", message.text().slice(0, 300)));
  await page.goto(`${server.url}/page/`);
  await page.waitForFunction(() => "edgevlTest" in globalThis);
  check("the page is cross-origin isolated", await page.evaluate(() => crossOriginIsolated));
  for (const kind of ["pixels", "ids", "answer", "refuse"]) {
    const { counts, problems } = await page.evaluate((each) => globalThis.edgevlTest.conformance(each), kind);
    check(`conformance in Chromium, ${kind}`, !problems.length && counts[kind] > 30, problems.length ? problems.slice(0, 8).join("\n  ") : `${counts[kind]} cases`);
  }
  for (const url of ["/suite/bundles/generate-prefix.edgevl", ...Object.keys(more)]) {
    for (const threads of [1, 2]) {
      const found = await page.evaluate(([path, n]) => globalThis.edgevlTest.inWorker(path, { threads: n }), [url, threads]);
      const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1].toFixed(1);
      const said = `${found.golden.passed} of ${found.golden.total} golden cases, ${found.runtime}, ${found.threads} threads, model ${median(found.timing.model)} ms, with the picture ${median(found.timing.pipeline)} ms`;
      check(`in a worker: ${url}`, found.golden.total > 0 && found.golden.passed === found.golden.total, [said, ...found.golden.problems].join("\n  "));
    }
  }
}
