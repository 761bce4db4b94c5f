import "./style.css";
import { droppedFiles, load, type BundleSource, type LoadedModel, UrlSource } from "edgevl-web";
import { askView } from "./ask.js";
import { checkView } from "./check.js";
import { el, fill } from "./dom.js";
import { searchView } from "./search.js";
import { speedView } from "./speed.js";
import type { Shared, View } from "./view.js";

const PAGES: { [name: string]: View } = { ask: askView, search: searchView, check: checkView, speed: speedView };
const content = document.querySelector("main") as HTMLElement;
const about = document.querySelector("#about") as HTMLElement;
const picker = document.querySelector("#bundle") as HTMLInputElement;
let shared: Shared | null = null;
let made: { [name: string]: HTMLElement } = {};

function show(focus: boolean): void {
  const name = location.hash.slice(1) in PAGES ? location.hash.slice(1) : "ask";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!shared) return;
  made[name] ??= (PAGES[name] as View)(shared);
  fill(content, made[name]);
  document.title = `${made[name].getAttribute("aria-label") ?? ""} – EdgeVL`;
  if (focus) content.focus({ preventScroll: true });
}

/** Open a bundle; while it opens, and if it cannot be, the page says so, and a model that was there stays. */
async function open(source: BundleSource, base: string | null): Promise<void> {
  about.textContent = "Opening the model …";
  let model: LoadedModel;
  try {
    model = await load(source, { assets: "./edgevl/", onProgress: (text) => (about.textContent = `Opening the model: ${text} …`) });
  } catch (error) {
    refuse(error instanceof Error ? error.message : String(error));
    return;
  }
  const pictures = shared?.pictures ?? []; // those that were chosen stay
  shared?.model.close();
  shared = { model, examples: base ? await examples(base, model) : [], pictures };
  made = {};
  const { manifest } = model;
  about.textContent = `${manifest.name}, ${manifest.target} ${manifest.precision}, runs in this browser. Nothing is sent.`;
  show(false);
}

function refuse(message: string): void {
  about.textContent = shared ? "The model from before is still open." : "No model is open.";
  const box = el("div", { class: "error", role: "alert" }, el("p", {}, el("strong", {}, "This bundle cannot be used: "), message));
  if (shared) content.prepend(box);
  else fill(content, el("section", {}, el("h1", {}, "No model"), box, el("p", {}, "Open another bundle: choose its folder below, or drop it anywhere.")));
}

/** Pictures and texts of the golden cases, to try the model with. */
async function examples(base: string, model: LoadedModel): Promise<Shared["examples"]> {
  try {
    const files = new UrlSource(base);
    const golden = JSON.parse(new TextDecoder().decode(await files.read(model.manifest.golden))) as { cases: { pictures: string[]; texts: string[] }[] };
    const found = new Map<string, Shared["examples"][number]>();
    for (const { pictures, texts } of golden.cases) {
      for (const path of pictures.slice(0, 4)) {
        if (found.size < 6 && !found.has(path)) found.set(path, { picture: new Blob([(await files.read(path)) as BlobPart], { type: "image/png" }), text: texts[0] ?? "" });
      }
    }
    return [...found.values()];
  } catch {
    return []; // examples are a convenience: the check page says what is wrong with a bundle
  }
}

/** Without a network: wait until the service worker holds the page, so that what is loaded from now on is kept. */
async function offline(): Promise<void> {
  if (!("serviceWorker" in navigator) || import.meta.env.DEV) return;
  try {
    await navigator.serviceWorker.register("./sw.js");
    await Promise.race([controlled(), new Promise((resolve) => setTimeout(resolve, 5000))]);
  } catch {
    // not allowed here, as in some private windows: the app works, but not without a network
  }
}

const controlled = (): Promise<void> => new Promise((resolve) => {
  if (navigator.serviceWorker.controller) resolve();
  else navigator.serviceWorker.addEventListener("controllerchange", () => resolve(), { once: true });
});

async function start(): Promise<void> {
  show(false);
  await offline();
  const answer = await fetch("./app.json").catch(() => null);
  const given = answer?.ok ? ((await answer.json()) as { bundle?: string }) : {};
  if (given.bundle) await open(given.bundle, new URL(given.bundle, document.baseURI).href);
  else refuse("The app came without one.");
}

addEventListener("hashchange", () => show(true));
picker.addEventListener("change", () => {
  if (picker.files?.length) void open([...picker.files], null);
  picker.value = "";
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer) void droppedFiles(event.dataTransfer.items).then((files) => open(files, null), (error: unknown) => refuse(String(error)));
});
void start();
