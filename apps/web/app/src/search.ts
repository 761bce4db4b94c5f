import { type Hit, type LoadedModel, SearchIndex } from "edgevl-web";
import { el, fill, ms } from "./dom.js";
import type { View } from "./view.js";

interface Photo {
  name: string;
  address: string;
}

const SHOWN = 12;
const LARGEST = 5000;

/** Find the photos of a person by words. They stay on this device. */
export const searchView: View = ({ model }) => {
  const heading = el("h1", {}, "Search your photos");
  if (model.manifest.decoding.kind !== "rank") {
    return el("section", { "aria-label": "Search" }, heading, el("p", {}, "This model answers questions. To search photos by words, open a bundle of a retrieval model:"),
      el("pre", { tabindex: 0 }, "edgevl export nano-retrieval --target litert"));
  }
  const status = el("p", { class: "times", role: "status" }, "Choose photos: they stay on this device.");
  const results = el("ul", { class: "grid", "aria-label": "Photos found" });
  const words = el("input", { type: "search", id: "words", autocomplete: "off", placeholder: "a red car", disabled: true });
  const searcher = new Searcher(model, results, status, words);
  words.addEventListener("input", () => searcher.type(words.value));
  const input = el("input", { type: "file", accept: "image/*", multiple: true, class: "visually-hidden", onchange: () => void searcher.add(Array.from(input.files ?? [])) });
  return el("section", { "aria-label": "Search" }, heading, el("div", { class: "row wrap" }, el("label", { class: "button primary" }, input, "Add photos …")),
    el("label", { for: "words" }, "What to look for"), words, status, results);
};

class Searcher {
  private index: SearchIndex<Photo> | null = null;
  private wanted = "";
  private running = false;

  constructor(
    private readonly model: LoadedModel,
    private readonly results: HTMLElement,
    private readonly status: HTMLElement,
    private readonly words: HTMLInputElement,
  ) {}

  async add(files: File[]): Promise<void> {
    const skipped: string[] = [];
    for (const [n, file] of files.slice(0, LARGEST).entries()) {
      this.status.textContent = `Reading photo ${n + 1} of ${files.length} …`;
      try {
        const embedding = await this.model.embed({ picture: file });
        this.index ??= new SearchIndex(embedding.length);
        this.index.add({ name: file.name, address: URL.createObjectURL(file) }, embedding);
      } catch {
        skipped.push(file.name);
      }
    }
    const left = skipped.length ? `; left out, as no picture: ${skipped.length}` : "";
    this.status.textContent = `${this.index?.size ?? 0} photos${left}`;
    this.words.disabled = !this.index?.size;
    if (!this.words.disabled) this.words.focus();
    this.type(this.words.value);
  }

  /** Look for what stands in the field now; while one search runs, only the latest words are kept. */
  type(text: string): void {
    this.wanted = text.trim();
    if (!this.running) void this.run();
  }

  private async run(): Promise<void> {
    if (!this.index) return;
    this.running = true;
    try {
      for (let done = ""; done !== this.wanted; ) {
        done = this.wanted;
        if (!done) break;
        const begin = performance.now();
        const hits = this.index.find(await this.model.embed({ text: done }), SHOWN);
        if (done === this.wanted) this.show(hits, performance.now() - begin);
      }
    } catch (error) {
      this.status.textContent = error instanceof Error ? error.message : String(error);
    } finally {
      this.running = false;
    }
  }

  private show(hits: Hit<Photo>[], time: number): void {
    this.status.textContent = `${this.index?.size ?? 0} photos, searched in ${ms(time)}`;
    fill(this.results, ...hits.map(({ id, score }) => el("li", {}, el("figure", {},
      el("img", { src: id.address, alt: id.name, loading: "lazy" }), el("figcaption", {}, `${score.toFixed(3)}  ${id.name}`)))));
  }
}

/** Type words over an index of a thousand, and return the milliseconds between frames meanwhile. */
export async function typingFrames(model: LoadedModel, text = "a small red car left of a tree"): Promise<number[]> {
  const first = await model.embed({ text: "a" });
  const index = new SearchIndex<number>(first.length);
  for (let n = 0; n < 1000; n++) index.add(n, first.map((value, k) => value * Math.cos(n + k)));
  const frames: number[] = [];
  let last = performance.now();
  let going = true;
  const frame = (now: number): void => {
    frames.push(now - last);
    last = now;
    if (going) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  for (let n = 1; n <= text.length; n++) {
    index.find(await model.embed({ text: text.slice(0, n) }), SHOWN);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  going = false;
  return frames.slice(1);
}

