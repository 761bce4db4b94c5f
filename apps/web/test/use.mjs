// The app as a person uses it: installed, by keyboard alone, with a camera, with a folder that is dropped on it.
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { appFolder } from "./app.mjs";
import { launchAsPerson, opened } from "./browser.mjs";
import { serveFolders } from "./server.mjs";

const CAMERA = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"];

export async function testUse(browser, check, suite) {
  const bundle = (name) => join(suite, "bundles", `${name}.edgevl`);
  const server = await serveFolders({ "/": appFolder(bundle("asked")) });
  const person = await launchAsPerson(mkdtempSync(join(tmpdir(), "edgevl-profile-")), CAMERA);
  try {
    const page = await person.newPage();
    await page.goto(server.url);
    await opened(page);
    await installable(page, check);
    await keyboard(page, check);
    await camera(page, check);
    await dropped(page, check, bundle);
  } finally {
    await person.close();
  }
  await noCamera(browser, check, server);
  server.close();
}

async function installable(page, check) {
  const cdp = await page.context().newCDPSession(page);
  const { installabilityErrors } = await cdp.send("Page.getInstallabilityErrors");
  check("the app can be installed", !installabilityErrors.length, installabilityErrors.map(({ errorId }) => errorId).join(", "));
}

/** From the top of the page to an answer, with Tab and Enter. */
async function keyboard(page, check) {
  const passed = [];
  const tab = async (done) => {
    for (let n = 0; n < 30; n++) {
      await page.keyboard.press("Tab");
      const at = await page.evaluate(() => {
        const { activeElement: e } = document;
        const shown = globalThis.getComputedStyle(e.closest(".button") ?? e).outlineStyle !== "none";
        return { name: e.id || e.labels?.[0]?.textContent || e.textContent.trim() || e.getAttribute("aria-label"), shown };
      });
      passed.push(at);
      if (at.name === done) return;
    }
    throw new Error(`Tab does not reach ${done}: ${passed.map(({ name }) => name).join(", ")}`);
  };
  await tab("Skip to the content");
  await page.keyboard.press("Enter");
  const skipped = await page.evaluate(() => document.activeElement.tagName === "MAIN");
  await tab("question");
  await page.keyboard.type("is there a tree?");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".answers .card");
  const hidden = passed.filter(({ shown }) => !shown).map(({ name }) => name);
  check("the keyboard alone asks a question, and shows where it is", skipped && !hidden.length, `over ${passed.map(({ name }) => name).join(", ")}${hidden.length ? `; not shown: ${hidden.join(", ")}` : ""}`);
  await page.emulateMedia({ reducedMotion: "reduce" });
  await page.click('nav a[href="#check"]');
  await page.click('nav a[href="#ask"]');
  check("nothing moves for those who want less motion", (await page.evaluate(() => document.getAnimations().length)) === 0);
}

async function camera(page, check) {
  const shown = () => page.locator(".frame img").getAttribute("src");
  const before = await shown();
  await page.getByRole("button", { name: "Take a photo" }).click();
  await page.waitForFunction(() => document.querySelector(".camera video")?.videoWidth > 0);
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.waitForSelector(".camera", { state: "detached" });
  const cancelled = (await shown()) === before;
  await page.getByRole("button", { name: "Take a photo" }).click();
  await page.waitForFunction(() => document.querySelector(".camera video")?.videoWidth > 0);
  await page.getByRole("button", { name: "Take it" }).click();
  await page.waitForFunction((old) => document.querySelector(".frame img").src !== old, before);
  await page.fill("#question", "is there a dog?");
  await page.press("#question", "Enter");
  await page.waitForSelector(".answers .card:nth-child(2)");
  const size = await page.evaluate(() => document.querySelector(".frame img").naturalWidth);
  check("a photo of the camera is asked about; Cancel keeps the picture", cancelled && size > 100, `${size} pixels wide`);
}

async function noCamera(browser, check, server) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(server.url);
  await opened(page);
  await page.getByRole("button", { name: "Take a photo" }).click();
  await page.waitForSelector(".ask .error:not([hidden])");
  const said = await page.locator(".ask .error").textContent();
  check("without a camera there is a sentence", /choose a picture/.test(said), said);
  await page.context().close();
}

/** Drop a folder, as a file manager does: a bundle is opened, and what is none is refused in words while the model stays. */
async function dropped(page, check, bundle) {
  const cdp = await page.context().newCDPSession(page);
  const drop = async (folder) => {
    const data = { items: [], files: [folder], dragOperationsMask: 1 };
    for (const type of ["dragEnter", "dragOver", "drop"]) await cdp.send("Input.dispatchDragEvent", { type, x: 20, y: 10, data });
  };
  await drop(bundle("box"));
  await page.waitForFunction(() => /^grounding.*runs in this browser/.test(document.querySelector("#about").textContent), null, { timeout: 30_000 });
  await page.setInputFiles('main input[type="file"]', join(bundle("box"), "..", "..", "pictures", "photo.png"));
  await page.fill("#question", "a tree");
  await page.press("#question", "Enter");
  await page.waitForSelector(".answers .card");
  check("a bundle that is dropped is opened, and its box is drawn", await page.locator(".frame .box").isVisible());
  await drop(join(bundle("box"), "golden"));
  await page.waitForSelector("main [role=alert]");
  const said = await page.locator("main [role=alert]").first().textContent();
  check("a folder without a bundle is refused in words", /choose the folder of a bundle/.test(said), said);
  const last = await page.locator("#about").textContent();
  check("the model from before stays", /still open/.test(last), last);
}
