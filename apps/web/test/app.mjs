// The app in Chromium: answers, a check, a broken bundle, no network, accessibility, screenshots. Called by chromium.mjs.
import { execFileSync } from "node:child_process";
import { mkdtempSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { opened } from "./browser.mjs";
import { serveFolders } from "./server.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const LOG = /^(INFO|WARNING): /; // LiteRT writes its log there
const SIZES = { phone: { width: 390, height: 844 }, narrow: { width: 360, height: 640 }, desktop: { width: 1440, height: 900 } };

/** Make a folder of the app with a bundle, as a person does. */
export function appFolder(bundle) {
  const out = join(mkdtempSync(join(tmpdir(), "edgevl-app-")), "app");
  execFileSync("edgevl", ["app", "web", "--out", out, ...(bundle ? ["--bundle", bundle] : [])], { stdio: ["ignore", "ignore", "inherit"] });
  return out;
}

export async function testApp(browser, check, bundle) {
  const folder = appFolder(bundle);
  const server = await serveFolders({ "/": folder });
  const context = await browser.newContext({ viewport: SIZES.phone });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && !LOG.test(message.text()) && errors.push(message.text()));
  await page.goto(server.url);
  await opened(page);
  await answers(page, check);
  await pages(page, check);
  await accessible(page, check);
  await steady(page, check);
  server.close();
  server.closeAll();
  await offline(page, check);
  check("no errors on the console", !errors.length, errors.slice(0, 3).join("; "));
  await context.close();
  await broken(browser, check, folder);
}

async function ask(page, text) {
  const before = await page.locator(".answers .card").count();
  await page.fill("#question", text);
  await page.press("#question", "Enter");
  await page.waitForFunction((n) => document.querySelectorAll(".answers .card").length > n || document.querySelectorAll(".answers .card").length === 20 || !document.querySelector(".ask .error").hidden, before);
  return page.locator(".answers .card .answer").first().textContent();
}

async function answers(page, check) {
  await page.locator(".chip").first().click();
  await page.waitForSelector(".answers .card");
  const bars = await page.locator(".answers .card meter").count();
  check("a question about an example is answered, with bars", bars > 1, await page.locator(".answer").first().textContent());
  await page.fill("#question", "");
  await page.press("#question", "Enter");
  await page.waitForSelector(".ask .error:not([hidden])");
  check("an empty question gets a sentence", /Type a question/.test(await page.locator(".ask .error").textContent()));
  await page.locator(".chip").first().click();
  await page.waitForSelector(".answers .card:nth-child(2)");
}

async function pages(page, check) {
  await page.click('nav a[href="#check"]');
  await page.getByRole("button", { name: "Replay the golden cases" }).click();
  await page.waitForSelector(".fine, .error");
  check("the golden cases pass in the app", await page.locator(".fine").count() === 1, await page.locator(".fine, .error").first().textContent());
  await page.click('nav a[href="#speed"]');
  await page.getByRole("button", { name: "Measure" }).click();
  await page.waitForSelector("table", { timeout: 120_000 });
  const text = await page.evaluate(async () => (await fetch(document.querySelector("a[download]").href)).text());
  const file = join(mkdtempSync(join(tmpdir(), "edgevl-bench-")), "bench.json");
  writeFileSync(file, text);
  const code = "import sys; from edgevl.bench.schema import read_report; print(read_report(sys.argv[1]).results[0].runtime)";
  check("the benchmark is one that edgevl reads", /onnxruntime|LiteRT/.test(execFileSync("python3", ["-c", code, file], { encoding: "utf8" })));
}

async function accessible(page, check) {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const name of ["ask", "search", "check", "speed"]) {
      await page.click(`nav a[href="#${name}"]`);
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] }));
      const said = violations.map((each) => `${each.id}: ${each.nodes[0]?.html.slice(0, 100)}`).join("\n  ");
      check(`axe finds nothing: ${name}, ${scheme}`, !violations.length, said);
    }
    for (const [size, viewport] of Object.entries(SIZES)) {
      await page.setViewportSize(viewport);
      await page.click('nav a[href="#ask"]');
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      check(`nothing is cut off: ${size}, ${scheme}`, !wide);
      const shots = process.env.EDGEVL_SHOTS;
      if (shots) {
        mkdirSync(shots, { recursive: true });
        await page.screenshot({ path: join(shots, `web-${size}-${scheme}.png`) });
      }
    }
  }
}

async function steady(page, check) {
  await page.click('nav a[href="#ask"]');
  const questions = ["what color is the car?", "how many things are there?", "is there a dog?", "is the cat left of the car?"];
  const memory = async () => {
    await page.requestGC?.();
    return (await page.evaluate(() => performance.memory.usedJSHeapSize)) / 2 ** 20;
  };
  for (let n = 0; n < 20; n++) await ask(page, questions[n % 4]);
  const before = await memory();
  const count = Number(process.env.EDGEVL_QUESTIONS ?? 200);
  for (let n = 0; n < count; n++) await ask(page, `${questions[n % 4]} ${n}`);
  const after = await memory();
  check(`memory of the page is steady over ${count} questions`, after - before < 8, `${before.toFixed(1)} to ${after.toFixed(1)} MiB`);
}

async function offline(page, check) {
  await page.reload();
  await opened(page);
  const answer = await ask(page, "what color is the car?");
  check("it answers without a server, after the first load", Boolean(answer), answer);
}

async function broken(browser, check, folder) {
  const { bundle } = JSON.parse(readFileSync(join(folder, "app.json"), "utf8"));
  const manifest = JSON.parse(readFileSync(join(folder, bundle, "manifest.json"), "utf8"));
  const artifact = join(folder, bundle, manifest.programs[0].artifact);
  const data = readFileSync(artifact);
  data[data.length >> 1] ^= 1;
  writeFileSync(artifact, data);
  const server = await serveFolders({ "/": folder });
  const page = await (await browser.newContext()).newPage();
  await page.goto(server.url);
  await page.waitForSelector("[role=alert] strong", { timeout: 60_000 });
  const said = await page.locator("[role=alert]").first().textContent();
  check("a bundle with one wrong bit is refused in words", /has changed or is damaged/.test(said), said);
  server.close();
  await page.context().close();
}

/** The first hit, once it stays the same for a second: each letter that is typed is searched for. */
async function firstFound(page) {
  let [first, same] = ["", 0];
  while (same < 5) {
    await page.waitForTimeout(200);
    const found = await page.locator(".grid figcaption").first().textContent();
    same = found === first ? same + 1 : 0;
    first = found;
  }
  return first;
}

/** Photos of a person found by words, with a retrieval bundle, and how steady frames are meanwhile. */
export async function testSearch(browser, check, suite) {
  const server = await serveFolders({ "/": appFolder(join(suite, "bundles", "rank.edgevl")) });
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${server.url}/#search`);
  await opened(page);
  const photos = ["photo.png", "odd.png", "rgba.png", "turned6.png", "jpeg.jpeg", "truncated.png"].map((name) => join(suite, "pictures", name));
  await page.setInputFiles('main input[type="file"]', photos);
  await page.waitForFunction(() => /5 photos; left out, as no picture: 1/.test(document.querySelector("main [role=status]").textContent));
  await page.locator("#words").pressSequentially("a red car left of a tree", { delay: 5 });
  await page.waitForFunction(() => document.querySelectorAll(".grid li").length === 5);
  const first = await firstFound(page);
  await page.fill("#words", "");
  await page.fill("#words", "a red car left of a tree");
  check("photos are found by words, and a damaged one is left out", first === (await firstFound(page)), first);
  await page.click('nav a[href="#speed"]');
  await page.getByRole("button", { name: "Measure" }).click();
  await page.waitForSelector("table", { timeout: 120_000 });
  const frames = await page.locator("tr", { hasText: "1 000 pictures" }).textContent();
  check("frames while typing over 1 000 pictures are measured", /ms/.test(frames), frames);
  server.close();
  await page.context().close();
}
