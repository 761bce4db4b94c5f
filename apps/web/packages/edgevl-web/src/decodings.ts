import { EdgeVLError } from "./errors.js";
import type { Activation, Decoding } from "./manifest.js";
import type { Query, Runner } from "./runner.js";
import type { Data } from "./runtime.js";
import type { TextCodec } from "./texts.js";

/** Rows of numbers, one below the other. */
export type Rows = Float64Array[];

/** What values say: decisions, how far each was from another one, and scores as shares where they are scores. */
export interface Decoded {
  values: { [output: string]: Rows };
  result: (string | number | number[])[];
  margins: number[];
  shares: Rows | null;
  /** The text of a sequence. */
  words: string | null;
}

interface Context {
  labels: readonly string[];
  texts: ReadonlyMap<string, TextCodec>;
}

const row = (data: Data): Float64Array => Float64Array.from(data as ArrayLike<number | bigint>, Number);

/** Evaluate the decoding that a manifest declares, for a query. A sequence follows the tokens `along`. */
export async function evaluate(decoding: Decoding, context: Context, runner: Runner, query: Query, along: readonly number[] | null = null): Promise<Decoded> {
  switch (decoding.kind) {
    case "classify":
    case "box":
      return decoded(decoding, context, { [decoding.output]: await ofEachText(runner, decoding.output, query) });
    case "rank": {
      const values: { [output: string]: Rows } = {};
      if (query.pictures.length) values[decoding.picture] = await all(query.pictures, (each) => runner.value(decoding.picture, { pictures: [each], texts: [] }));
      if (query.texts.length) values[decoding.text] = await all(query.texts, (each) => runner.value(decoding.text, { pictures: [], texts: [each] }));
      return decoded(decoding, context, values);
    }
    case "generate":
      return decoded(decoding, context, { [decoding.output]: await ofEachStep(runner, decoding, query, along) });
  }
}

async function all<T>(items: readonly T[], value: (item: T) => Promise<Data>): Promise<Rows> {
  const rows: Rows = [];
  for (const each of items) rows.push(row(await value(each)));
  return rows;
}

function ofEachText(runner: Runner, output: string, query: Query): Promise<Rows> {
  const texts = query.texts.length ? query.texts.map((text) => [text]) : [[]];
  return all(texts, (each) => runner.value(output, { pictures: query.pictures, texts: each }));
}

async function ofEachStep(runner: Runner, decoding: Decoding & { kind: "generate" }, query: Query, along: readonly number[] | null): Promise<Rows> {
  if (query.texts.length > 1) throw new EdgeVLError("query", "a generated answer has one text at most: ask one after another");
  const rows: Rows = [];
  let loop = { states: new Map<string, Data>(), token: decoding.start, step: 0 };
  for (let step = 0; step < (along?.length ?? decoding.steps); step++) {
    const { outputs, states } = await runner.step(decoding.program, query, loop);
    const scores = row(outputs.get(decoding.output) as Data);
    rows.push(scores);
    const token = along?.[step] ?? best(scores);
    if (token === decoding.stop) break;
    loop = { states, token, step: step + 1 };
  }
  return rows;
}

/** Return what values say. Throws `EdgeVLError` for such as no artifact may give. */
export function decoded(decoding: Decoding, context: Context, values: { [output: string]: Rows }): Decoded {
  const bad = decoding.kind === "generate" ? Number.isNaN : (value: number) => !Number.isFinite(value);
  if (Object.values(values).some((rows) => rows.some((each) => each.some(bad)))) throw new EdgeVLError("runtime", "the model gives numbers that are none: verify the bundle");
  const found: Decoded = { values, result: [], margins: [], shares: null, words: null };
  switch (decoding.kind) {
    case "classify": {
      const scores = values[decoding.output] as Rows;
      const result = scores.map((each) => context.labels[best(each)] as string);
      return { ...found, result, margins: margins(scores), shares: scores.map((each) => shares(each, decoding.activation)) };
    }
    case "rank": {
      const [pictures, texts] = [values[decoding.picture], values[decoding.text]];
      if (!pictures || !texts) return found;
      const products = pictures.map((p) => Float64Array.from(texts, (t) => dot(p, t)));
      const scores = products.map((each) => each.map((product) => decoding.scale * product + (decoding.bias ?? 0)));
      return { ...found, result: products.map(best), margins: margins(products), shares: scores.map((each) => shares(each, decoding.activation)) };
    }
    case "generate": {
      const scores = values[decoding.output] as Rows;
      const result = scores.map(best);
      const end = result.indexOf(decoding.stop);
      const codec = context.texts.get(decoding.text ?? "main") as TextCodec;
      return { ...found, result, margins: margins(scores), words: codec.decode(end < 0 ? result : result.slice(0, end)) };
    }
    case "box":
      return { ...found, result: (values[decoding.output] as Rows).map((each) => corners(each, decoding.format)) };
  }
}

/** The place of the largest number; of equal ones the first. */
export function best(scores: ArrayLike<number>): number {
  let place = 0;
  for (let n = 1; n < scores.length; n++) if ((scores[n] as number) > (scores[place] as number)) place = n;
  return place;
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += (a[n] as number) * (b[n] as number);
  return sum;
}

function margins(rows: Rows): number[] {
  return rows.filter((each) => each.length > 1).map((each) => {
    const first = best(each);
    let second = -Infinity;
    each.forEach((value, n) => {
      if (n !== first && value > second) second = value;
    });
    return (each[first] as number) - second;
  });
}

/** Scores as shares, in double precision. */
export function shares(scores: ArrayLike<number>, activation: Activation = "softmax"): Float64Array {
  const values = Float64Array.from(scores);
  if (activation === "sigmoid") return values.map((value) => 1 / (1 + Math.exp(-Math.max(-500, Math.min(500, value)))));
  const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = values.map((value) => Math.exp(value - most));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

function corners(values: Float64Array, format: "center" | "corners" = "center"): number[] {
  const [a, b, c, d] = values as unknown as [number, number, number, number];
  const found = format === "corners" ? [a, b, c, d] : [a - c / 2, b - d / 2, a + c / 2, b + d / 2];
  return found.map((each) => Math.min(Math.max(each, 0), 1));
}
