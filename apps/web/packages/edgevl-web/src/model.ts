import { Bundle } from "./bundle.js";
import { decodePicture, type PictureSource } from "./decode.js";
import { decoded, dot, evaluate, type Decoded } from "./decodings.js";
import { EdgeVLError } from "./errors.js";
import { Picture, Runner } from "./runner.js";
import type { Runtime, Session } from "./runtime.js";

/** Milliseconds of each stage. */
export interface Times {
  decode: number;
  resize: number;
  model: number;
}

/** An answer to one text, or to pictures alone. */
export interface Answer {
  /** The label, the words, or the number of the best text; of a box its corners with commas. */
  answer: string;
  /** Labels or texts with their shares, the largest first; none of boxes and sequences. */
  scores: { label: string; share: number }[];
  /** left, top, right, bottom as shares of the square that the model sees: see `boxOnPicture`. */
  box: number[] | null;
  margin: number | null;
  times: Times;
}

const TOP = 5;

/** A bundle that is ready to answer. */
export class Model {
  private constructor(
    readonly bundle: Bundle,
    readonly runtime: string,
    readonly runner: Runner,
    private readonly sessions: ReadonlyMap<string, Session>,
  ) {}

  /** Open every program of a bundle with a runtime. Throws `EdgeVLError`. */
  static async open(bundle: Bundle, runtime: Runtime): Promise<Model> {
    const sessions = new Map<string, Session>();
    for (const program of bundle.manifest.programs) {
      sessions.set(program.name, await runtime.open(program, await bundle.files.read(program.artifact)));
    }
    return new Model(bundle, runtime.name, new Runner(bundle.manifest, bundle.texts, sessions), sessions);
  }

  /** Decode a picture once, for many questions. */
  async picture(source: PictureSource): Promise<Picture> {
    return new Picture(await decodePicture(source));
  }

  /** Evaluate the decoding for pictures and texts, as the manifest says. */
  evaluate(pictures: readonly Picture[], texts: readonly string[], along: readonly number[] | null = null): Promise<Decoded> {
    return evaluate(this.bundle.manifest.decoding, this.bundle, this.runner, { pictures, texts }, along);
  }

  /** What recorded values say. */
  decoded(values: Decoded["values"]): Decoded {
    return decoded(this.bundle.manifest.decoding, this.bundle, values);
  }

  /** Ask about pictures: one answer for each text, or one for the pictures alone. */
  async ask(sources: readonly (PictureSource | Picture)[], texts: readonly string[]): Promise<Answer[]> {
    const begin = performance.now();
    const pictures: Picture[] = [];
    for (const source of sources) pictures.push(source instanceof Picture ? source : await this.picture(source));
    const ready = performance.now();
    for (const picture of pictures) for (const processing of Object.values(this.bundle.manifest.image_processing)) await picture.tensor(processing);
    const resized = performance.now();
    const found = await this.evaluate(pictures, texts);
    const times = { decode: ready - begin, resize: resized - ready, model: performance.now() - resized };
    return this.answers(found, texts, times);
  }

  private answers(found: Decoded, texts: readonly string[], times: Times): Answer[] {
    const { decoding } = this.bundle.manifest;
    if (decoding.kind === "generate") return [{ answer: found.words ?? "", scores: [], box: null, margin: Math.min(...found.margins), times }];
    const names = decoding.kind === "rank" ? texts : this.bundle.labels;
    return found.result.map((each, n) => ({
      answer: Array.isArray(each) ? each.map((value) => value.toFixed(3)).join(", ") : typeof each === "number" ? (texts[each] ?? String(each)) : each,
      scores: found.shares?.[n] ? largest(found.shares[n], names) : [],
      box: Array.isArray(each) ? each : null,
      margin: found.margins[n] ?? null,
      times,
    }));
  }

  /** Return the embedding of a picture or of a text. Throws `EdgeVLError` for a model that has none. */
  async embed(what: { picture: PictureSource | Picture } | { text: string }): Promise<Float32Array> {
    const { decoding } = this.bundle.manifest;
    if (decoding.kind !== "rank") throw new EdgeVLError("query", "this model answers questions, it makes no embeddings");
    if ("text" in what) return Float32Array.from((await this.runner.value(decoding.text, { pictures: [], texts: [what.text] })) as Float32Array);
    const picture = what.picture instanceof Picture ? what.picture : await this.picture(what.picture);
    return Float32Array.from((await this.runner.value(decoding.picture, { pictures: [picture], texts: [] })) as Float32Array);
  }

  /** Return the embedding of a label: the mean over the manifest's prompts, of length 1. */
  async embedLabel(label: string): Promise<Float32Array> {
    const { decoding } = this.bundle.manifest;
    const prompts = decoding.kind === "rank" && decoding.prompts?.length ? decoding.prompts : ["{}"];
    let sum: Float64Array | null = null;
    for (const prompt of prompts) {
      const each = await this.embed({ text: prompt.replace("{}", () => label) });
      sum = sum ? sum.map((value, n) => value + (each[n] as number)) : Float64Array.from(each);
    }
    const total = sum as Float64Array;
    const length = Math.sqrt(dot(total, total)) || 1e-12;
    return Float32Array.from(total, (value) => value / length);
  }

  close(): void {
    for (const session of this.sessions.values()) session.close();
  }
}

function largest(shares: Float64Array, names: readonly string[]): { label: string; share: number }[] {
  const order = Array.from(shares.keys()).sort((a, b) => (shares[b] as number) - (shares[a] as number) || a - b);
  return order.slice(0, TOP).map((n) => ({ label: names[n] ?? String(n), share: shares[n] as number }));
}
