import { EdgeVLError } from "./errors.js";
import { sha256 } from "./files.js";
import type { ImageProcessing, InputSpec, Manifest, Program, Source } from "./manifest.js";
import type { Rgb } from "./raster.js";
import { toTensor } from "./resize.js";
import { arrayOf, type Data, type Session, type Tensors } from "./runtime.js";
import type { TextCodec } from "./texts.js";

/** Upright pictures and texts that belong together, in order. */
export interface Query {
  pictures: readonly Picture[];
  texts: readonly string[];
}

/** A decoded picture. What each image processing makes of it is kept, with its digest. */
export class Picture {
  private readonly made = new Map<string, Promise<{ tensor: Uint8Array; key: string }>>();
  constructor(readonly rgb: Rgb) {}

  tensor(processing: ImageProcessing): Promise<{ tensor: Uint8Array; key: string }> {
    const name = JSON.stringify(processing);
    let found = this.made.get(name);
    if (!found) {
      found = (async () => {
        const tensor = toTensor(this.rgb, processing);
        return { tensor, key: await sha256(tensor) };
      })();
      found.catch(() => this.made.delete(name));
      this.made.set(name, found);
    }
    return found;
  }
}

/** Where a sequence stands: what the next step reads. */
export interface Loop {
  states: Map<string, Data>;
  token: number;
  step: number;
}

const REMEMBERED = 64 * 2 ** 20; // bytes of values

/**
 * Values of queries, by name: pulled through the sources that the manifest declares. What was computed is remembered by
 * the content of what it depends on, so a picture with four questions is encoded once. Knows no task.
 */
export class Runner {
  /** Runs of each program so far. */
  readonly calls = new Map<string, number>();
  private readonly programs: Map<string, Program>;
  private readonly makers = new Map<string, Program>();
  private readonly memory = new Map<string, { values: Tensors; bytes: number }>();
  private readonly running = new Map<string, Promise<Tensors>>();
  private bytes = 0;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly manifest: Manifest,
    private readonly texts: ReadonlyMap<string, TextCodec>,
    private readonly sessions: ReadonlyMap<string, Session>,
    private readonly remember = REMEMBERED,
  ) {
    this.programs = new Map(manifest.programs.map((program) => [program.name, program]));
    for (const program of manifest.programs) {
      this.calls.set(program.name, 0);
      for (const spec of program.outputs) this.makers.set(spec.name, program);
    }
  }

  /** Forget what was computed. */
  forget(): void {
    this.memory.clear();
    this.bytes = 0;
  }

  /** Return an output for a query, without its batch. */
  async value(name: string, query: Query): Promise<Data> {
    const program = this.makers.get(name) as Program;
    const key = await this.key(program, query);
    const found = this.memory.get(key);
    if (found) {
      this.memory.delete(key);
      this.memory.set(key, found);
      return found.values.get(name) as Data;
    }
    let running = this.running.get(key);
    if (!running) {
      running = this.run(program, query).finally(() => this.running.delete(key));
      this.running.set(key, running);
    }
    const values = await running;
    this.keep(key, values);
    return values.get(name) as Data;
  }

  private keep(key: string, values: Tensors): void {
    const bytes = [...values.values()].reduce((sum, each) => sum + each.byteLength, 0);
    if (this.memory.has(key) || bytes > this.remember) return;
    this.memory.set(key, { values, bytes });
    this.bytes += bytes;
    for (const [oldest, each] of this.memory) {
      if (this.bytes <= this.remember) break;
      this.memory.delete(oldest);
      this.bytes -= each.bytes;
    }
  }

  /** What the outputs of a program depend on for a query, by content. States, tokens and steps are no part of it. */
  private async key(program: Program, query: Query): Promise<string> {
    const parts: unknown[] = [program.name];
    for (const { from } of program.inputs) {
      if (from.kind === "picture") parts.push((await this.pixels(from, query)).key);
      else if (from.kind === "text") parts.push([from.processing ?? "main", from.part ?? "ids", item(query.texts, from.index, "text")]);
      else if (from.kind === "value") parts.push(await this.key(this.makers.get(from.name) as Program, part(query, from)));
    }
    return JSON.stringify(parts);
  }

  private pixels(from: Source & { kind: "picture" }, query: Query): Promise<{ tensor: Uint8Array; key: string }> {
    return item(query.pictures, from.index, "picture").tensor(this.manifest.image_processing[from.processing ?? "main"] as ImageProcessing);
  }

  /** What goes into an input, for one sample. */
  private async taken(spec: InputSpec, query: Query, loop: Loop | null): Promise<Data> {
    const { from } = spec;
    const count = spec.shape.slice(1).reduce((a, b) => a * b, 1);
    switch (from.kind) {
      case "picture":
        return (await this.pixels(from, query)).tensor;
      case "text": {
        const codec = this.texts.get(from.processing ?? "main") as TextCodec;
        const text = item(query.texts, from.index, "text");
        return arrayOf(spec.dtype, (from.part ?? "ids") === "ids" ? codec.encode(text) : codec.mask(text));
      }
      case "value":
        return this.value(from.name, part(query, from));
      case "state": {
        const state = loop?.states.get(from.name);
        if (state) return state;
        return from.start ? this.value(from.start, query) : arrayOf(spec.dtype, new Array<number>(count).fill(0));
      }
      default:
        return arrayOf(spec.dtype, new Array<number>(count).fill(loop ? loop[from.kind] : 0));
    }
  }

  /** Run a program for one query: repeated to its batch, the first row kept. */
  async run(program: Program, query: Query, loop: Loop | null = null): Promise<Tensors> {
    const feeds: Tensors = new Map();
    for (const spec of program.inputs) feeds.set(spec.name, repeated(await this.taken(spec, query, loop), spec.shape[0] as number));
    const outputs = await this.alone(() => {
      this.calls.set(program.name, (this.calls.get(program.name) as number) + 1);
      return (this.sessions.get(program.name) as Session).run(feeds);
    });
    return new Map(program.outputs.map((spec) => {
      const all = outputs.get(spec.name) as Data;
      return [spec.name, all.slice(0, all.length / (spec.shape[0] as number))];
    }));
  }

  /** One run after another: the runtimes compute on one set of threads, and not all of them queue. */
  private alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work, work);
    this.turn = result.catch(() => undefined);
    return result;
  }

  /** Run one step of a sequence; return its outputs and where the sequence stands. */
  async step(name: string, query: Query, loop: Loop): Promise<{ outputs: Tensors; states: Map<string, Data> }> {
    const program = this.programs.get(name) as Program;
    const outputs = await this.run(program, query, loop);
    const states = new Map<string, Data>();
    for (const { from } of program.inputs) if (from.kind === "state") states.set(from.name, outputs.get(from.name) as Data);
    return { outputs, states };
  }
}

function item<T>(items: readonly T[], index = 0, what: string): T {
  const found = items[index];
  if (found === undefined) throw new EdgeVLError("query", `the model reads ${what} number ${index + 1}, the query has ${items.length}`);
  return found;
}

/** The pictures and texts of a query that a value is computed for. */
function part(query: Query, { pictures, texts }: Source & { kind: "value" }): Query {
  return {
    pictures: pictures ? pictures.map((n) => item(query.pictures, n, "picture")) : query.pictures,
    texts: texts ? texts.map((n) => item(query.texts, n, "text")) : query.texts,
  };
}

function repeated(row: Data, batch: number): Data {
  if (batch === 1) return row;
  const out = new (row.constructor as new (size: number) => Data)(row.length * batch);
  for (let n = 0; n < batch; n++) out.set(row as never, n * row.length);
  return out;
}
