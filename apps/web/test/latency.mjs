// Times in Chromium for tools/web_latency.py: one JSON command on a line of stdin, one JSON answer on a line of stdout.
//   {"open": FOLDER, "threads": N}      opens a bundle in a worker of its own: {"index", "runtime", "threads", "load", "golden"}
//   {"block": INDEX, "count": N}        times N queries: {"first", "model": [ms], "pipeline": [ms]}
//   {"visit": FOLDER}                   a first and a second visit of an app of `edgevl app web`: {"first", "second", "files"}
//   {"frames": FOLDER, "photos": [..]}  types over these photos in an app with a retrieval bundle: {"frames": [ms], "photos": N}
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { buildPage, launch, launchAsPerson, opened } from "./browser.mjs";
import { serveFolders } from "./server.mjs";

const work = mkdtempSync(join(tmpdir(), "edgevl-latency-"));
await buildPage(work);
const folders = { "/page/": join(work, "page"), "/runtimes/": join(work, "runtimes") };
const server = await serveFolders(folders);
const browser = await launch();
const page = await browser.newPage();
await page.goto(`${server.url}/page/`);
await page.waitForFunction(() => "edgevlTest" in globalThis);
let count = 0;

const COMMANDS = {
  async open({ open, threads }) {
    const mount = `/bundle${count++}/`;
    folders[mount] = open;
    return page.evaluate(([url, options]) => globalThis.edgevlTest.openTimed(url, options), [mount, { threads }]);
  },
  block: ({ block, count: queries }) => page.evaluate(([index, n]) => globalThis.edgevlTest.timed(index, n), [block, queries]),
  async visit({ visit }) {
    const app = await serveFolders({ "/": visit });
    const person = await launchAsPerson(mkdtempSync(join(tmpdir(), "edgevl-profile-")), []);
    const seconds = async () => {
      const own = await person.newPage();
      const begin = performance.now();
      await own.goto(app.url);
      await opened(own);
      const took = (performance.now() - begin) / 1000;
      await own.close();
      return took;
    };
    const first = await seconds();
    const files = [...app.requests];
    const second = await seconds();
    await person.close();
    app.close();
    return { first, second, files };
  },
  async frames({ frames, photos }) {
    const app = await serveFolders({ "/": frames });
    const own = await browser.newPage();
    await own.goto(`${app.url}/#search`);
    await opened(own);
    await own.setInputFiles('main input[type="file"]', photos);
    await own.waitForFunction(() => /^\d+ photos/.test(document.querySelector("main [role=status]").textContent), null, { timeout: 600_000 });
    await own.evaluate(() => {
      const found = (globalThis.frames_ = []);
      let last = performance.now();
      const next = (now) => {
        found.push(now - last);
        last = now;
        globalThis.requestAnimationFrame(next);
      };
      globalThis.requestAnimationFrame(next);
    });
    await own.locator("#words").pressSequentially("a small red car left of a green tree", { delay: 80 });
    await own.waitForSelector(".grid li");
    const taken = await own.evaluate(() => globalThis.frames_.slice(1));
    const said = await own.locator("main [role=status]").textContent();
    await own.close();
    app.close();
    return { frames: taken, said };
  },
};

try {
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    const [name] = Object.keys(command);
    console.log(JSON.stringify(await COMMANDS[name](command)));
  }
} finally {
  await browser.close();
  server.close();
}
