// How tests start Chromium, and when the app is ready.
import { chromium } from "playwright-core";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--js-flags=--expose-gc"];

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** Start Chromium: CHROMIUM, or the one of Debian. */
export const launch = (...more) => chromium.launch({ executablePath, args: [...FLAGS, ...more] });

/** With a profile in a folder, as a person has one: nothing is installed from a private window. */
export const launchAsPerson = (profile, more) => chromium.launchPersistentContext(profile, { executablePath, args: [...FLAGS, ...more] });

/** Wait until the app has a model, or says that it has none. */
export const opened = (page) => page.waitForFunction(() => /runs in this browser|No model is open/.test(document.querySelector("#about")?.textContent), null, { timeout: 60_000 });
