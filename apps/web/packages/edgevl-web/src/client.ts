import type { BundleSource } from "./bundle.js";
import type { PictureSource } from "./decode.js";
import type { Decoded } from "./decodings.js";
import { EdgeVLError, refused } from "./errors.js";
import { FilesSource } from "./files.js";
import type { Manifest } from "./manifest.js";
import type { Answer } from "./model.js";
import type { Calls, Golden, Opened, Progress, Reply, SentSource, Timing } from "./protocol.js";
import { checkManifest } from "./rules.js";
import { parseJson } from "./strict_json.js";
import { UrlSource } from "./files.js";

export interface LoadOptions {
  /** The folder that `npx edgevl-web-runtimes FOLDER` filled: workers and WASM. Default: `edgevl/` beside the page. */
  assets?: string | URL;
  /** Threads of the model; default: half of the cores, at most four, and one where the page is not cross-origin isolated. */
  threads?: number;
  /** Keep the bundle's files in the browser's cache, by digest. Default: yes. */
  keep?: boolean;
  /** Try WebGPU, too, with a LiteRT bundle: used only if every golden case passes on it and it is faster. Default: no. */
  webgpu?: boolean;
  /** Called with what is being done. */
  onProgress?: (text: string) => void;
}

const WORKERS: { [target: string]: string } = { onnx: "worker-onnx.js", litert: "worker-litert.js" };

/**
 * Open a bundle in a worker of its own. The runtime is the one of the bundle's target, LiteRT.js or ONNX Runtime, and
 * nothing of the other is loaded. Throws `EdgeVLError`.
 */
export async function load(from: BundleSource, options: LoadOptions = {}): Promise<LoadedModel> {
  const assets = new URL(options.assets ?? "edgevl/", document.baseURI).href.replace(/\/*$/, "/");
  const source = sent(from);
  const manifest = await peek(source);
  const worker = WORKERS[manifest.target];
  if (!worker) throw refused(`a bundle for ${manifest.target} does not run in a browser: export with --target litert or onnx`);
  // A worker that is not there says nothing but that. An app of `edgevl app web` has the runtime of one target.
  const missing = `the worker for ${manifest.target} could not be started: is ${worker} at \`assets\`? An app that edgevl app web wrote opens bundles of the target that it was written for`;
  const link = new Link(new Worker(assets + worker), missing, options.onProgress);
  const most = globalThis.crossOriginIsolated ? Math.max(1, Math.min(4, navigator.hardwareConcurrency >> 1)) : 1;
  const threads = globalThis.crossOriginIsolated ? (options.threads ?? most) : 1;
  try {
    const opened = await link.call("open", source, { assets, threads }, { keep: options.keep ?? true, webgpu: options.webgpu ?? false });
    return new LoadedModel(link, opened);
  } catch (error) {
    link.close();
    throw error;
  }
}

function sent(from: BundleSource): SentSource {
  if (typeof from === "string" || from instanceof URL) return { url: new URL(from, document.baseURI).href };
  if (from instanceof Map) return { files: from as Map<string, Blob> };
  if (Symbol.iterator in from) return { files: new Map(Array.from(from as Iterable<File>, (file) => [file.webkitRelativePath || file.name, file])) };
  throw refused("a source of your own cannot be sent to a worker: use Bundle.open and Model.open");
}

/** The target decides which worker is started, so the manifest is looked at here, and again in the worker. */
async function peek(source: SentSource): Promise<Manifest> {
  const files = "url" in source ? new UrlSource(source.url) : new FilesSource(source.files);
  return checkManifest(parseJson(await files.read("manifest.json"), "manifest.json"));
}

class Link {
  private readonly waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  private last = 0;

  constructor(
    private readonly worker: Worker,
    missing: string,
    onProgress?: (text: string) => void,
  ) {
    worker.onmessage = ({ data }: MessageEvent<Reply | Progress>) => {
      if ("progress" in data) onProgress?.(data.progress);
      else this.settle(data);
    };
    worker.onerror = (event) => this.fail(event.message || missing);
  }

  private settle(reply: Reply): void {
    const waiting = this.waiting.get(reply.id);
    this.waiting.delete(reply.id);
    if ("value" in reply) waiting?.resolve(reply.value);
    else waiting?.reject(reply.error.reason ? new EdgeVLError(reply.error.reason, reply.error.message) : new Error(reply.error.message));
  }

  private fail(message: string): void {
    for (const { reject } of this.waiting.values()) reject(new EdgeVLError("runtime", message));
    this.waiting.clear();
  }

  call<Name extends keyof Calls>(name: Name, ...given: Calls[Name][0]): Promise<Calls[Name][1]> {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.worker.postMessage({ id, name, arguments: given });
    });
  }

  close(): void {
    this.worker.terminate();
    this.fail("the model was closed");
  }
}

const list = <T>(one: T | readonly T[]): T[] => (Array.isArray(one) ? [...(one as readonly T[])] : [one as T]);

/** A picture that the worker holds, decoded and, with a split bundle after the first question, encoded. */
export class Look {
  constructor(
    private readonly link: Link,
    readonly number: number,
  ) {}

  /** Ask about the picture. With a split bundle only the question is computed. */
  async ask(text: string): Promise<Answer> {
    const [answer] = await this.link.call("ask", [this.number], [text]);
    return answer as Answer;
  }

  /** Let go of the picture. */
  async close(): Promise<void> {
    await this.link.call("unlook", this.number);
  }
}

/** An opened bundle in a worker. */
export class LoadedModel {
  constructor(
    private readonly link: Link,
    private readonly opened: Opened,
  ) {}

  get manifest(): Manifest {
    return this.opened.manifest;
  }

  get labels(): readonly string[] {
    return this.opened.labels;
  }

  /** The runtime, in words. */
  get runtime(): string {
    return this.opened.runtime;
  }

  /** Threads that it uses. */
  get threads(): number {
    return this.opened.threads;
  }

  /** What came of `webgpu: true`, in words; null without it. */
  get tried(): string | null {
    return this.opened.tried;
  }

  /** Milliseconds of opening: bundle, then programs. */
  get loadTimes(): { bundle: number; programs: number } {
    return this.opened.times;
  }

  /** Ask about one picture, or about several that belong together; one answer for each text. */
  async ask(pictures: PictureSource | readonly PictureSource[], text: string): Promise<Answer>;
  async ask(pictures: PictureSource | readonly PictureSource[], texts: readonly string[]): Promise<Answer[]>;
  async ask(pictures: PictureSource | readonly PictureSource[], texts: string | readonly string[]): Promise<Answer | Answer[]> {
    const answers = await this.link.call("ask", list(pictures), list(texts));
    return typeof texts === "string" ? (answers[0] as Answer) : answers;
  }

  /** Decode a picture once, to ask much about it. */
  async look(picture: PictureSource): Promise<Look> {
    return new Look(this.link, await this.link.call("look", picture));
  }

  /** The decoding's own values and result, for an app that shows them in its own way. */
  evaluate(pictures: readonly PictureSource[], texts: readonly string[], along: readonly number[] | null = null): Promise<Decoded> {
    return this.link.call("evaluate", [...pictures], [...texts], along && [...along]);
  }

  /** The embedding of a picture, a text, or a label through the manifest's prompts. */
  embed(what: { picture: PictureSource } | { text: string } | { label: string }): Promise<Float32Array> {
    if ("picture" in what) return this.link.call("embedPicture", what.picture);
    return "text" in what ? this.link.call("embedText", what.text) : this.link.call("embedLabel", what.label);
  }

  /** Read and check every file of the bundle. */
  async checkFiles(): Promise<void> {
    await this.link.call("checkFiles");
  }

  /** Replay the golden cases. */
  replayGolden(): Promise<Golden> {
    return this.link.call("golden");
  }

  /** Time `count` queries of the first golden case. */
  bench(count: number): Promise<Timing> {
    return this.link.call("bench", count);
  }

  /** End the worker. */
  close(): void {
    this.link.close();
  }
}
