import { refused } from "./errors.js";
import { sha256 } from "./files.js";
import type { Model } from "./model.js";
import type { Golden } from "./protocol.js";
import type { Picture } from "./runner.js";
import { checkSchema } from "./schema.js";
import { parseJson } from "./strict_json.js";

export interface GoldenCase {
  pictures: string[];
  texts: string[];
  pixels_sha256: { [processing: string]: string[] };
  input_ids: { [processing: string]: number[][] };
  values: { [output: string]: { shape: number[]; data?: number[] | null; top?: [number, number][][] | null } };
  result: (string | number | number[])[];
  margins: number[];
}

interface GoldenFile {
  tolerance: { [output: string]: number };
  cases: GoldenCase[];
}

/** Read `golden.json`. Throws `EdgeVLError`. */
export async function goldenCases(model: Model): Promise<GoldenFile> {
  const { bundle } = model;
  const values = parseJson(await bundle.files.read(bundle.manifest.golden), bundle.manifest.golden);
  checkSchema(values, "GoldenFile", bundle.manifest.golden);
  return values as unknown as GoldenFile;
}

/** Read and decode the pictures of a case. */
export async function goldenPictures(model: Model, golden: GoldenCase): Promise<Picture[]> {
  return Promise.all(golden.pictures.map(async (path) => model.picture(await model.bundle.files.read(path))));
}

/** Replay every golden case: pixels, token ids, values and results, as docs/bundle.md says. */
export async function replayGolden(model: Model): Promise<Golden> {
  const { cases, tolerance } = await goldenCases(model);
  const problems: string[] = [];
  for (const [number, each] of cases.entries()) {
    const problem = await caseProblem(model, each, tolerance);
    if (problem) problems.push(`golden case ${each.pictures[0] ?? number + 1}: ${problem}`);
  }
  return { total: cases.length, passed: cases.length - problems.length, problems };
}

async function caseProblem(model: Model, golden: GoldenCase, tolerance: { [output: string]: number }): Promise<string> {
  const { manifest, texts } = model.bundle;
  const pictures = await goldenPictures(model, golden);
  for (const [name, processing] of Object.entries(manifest.image_processing)) {
    for (const [n, picture] of pictures.entries()) {
      if ((await sha256((await picture.tensor(processing)).tensor)) !== golden.pixels_sha256[name]?.[n]) return "other pixels than recorded";
    }
  }
  for (const [name, codec] of texts) {
    for (const [n, text] of golden.texts.entries()) {
      if (codec.encode(text).join() !== golden.input_ids[name]?.[n]?.join()) return "other token ids than recorded";
    }
  }
  return answerProblem(model, golden, pictures, tolerance);
}

async function answerProblem(model: Model, golden: GoldenCase, pictures: Picture[], tolerance: { [output: string]: number }): Promise<string> {
  const sequence = model.bundle.manifest.decoding.kind === "generate";
  const own = await model.evaluate(pictures, golden.texts, sequence ? (golden.result as number[]) : null);
  for (const [output, recorded] of Object.entries(golden.values)) {
    const allowed = tolerance[output] ?? 0;
    const worst = difference(own.values[output] ?? [], recorded);
    if (!(worst <= allowed)) return `${output} differs by ${worst.toPrecision(3)}, at most ${allowed.toPrecision(3)} is allowed`;
  }
  const least = 2 * Math.max(...Object.values(tolerance));
  return same(own.result, golden, least, sequence) ? "" : "another result than recorded";
}

/** The largest difference of a number that is recorded; infinity for another shape, and for what is no number. */
function difference(own: ArrayLike<number>[], recorded: GoldenCase["values"][string]): number {
  const [count, width] = recorded.shape as [number, number];
  if (own.length !== count || own.some((row) => row.length !== width)) return Infinity;
  const pairs = recorded.top ?? chunks(recorded.data ?? [], width);
  if (pairs.length !== count) throw refused("a golden case records other values than its shape says");
  let worst = 0;
  pairs.forEach((row, y) => {
    for (const [x, value] of row) {
      const each = Math.abs((own[y]?.[x] ?? NaN) - value);
      worst = Number.isNaN(each) ? Infinity : Math.max(worst, each);
    }
  });
  return worst;
}

const chunks = (data: number[], width: number): [number, number][][] =>
  Array.from({ length: data.length / width }, (_, y) => data.slice(y * width, (y + 1) * width).map((value, x): [number, number] => [x, value]));

function same(own: GoldenCase["result"], { result, margins }: GoldenCase, least: number, sequence: boolean): boolean {
  if (own.length !== result.length) return false;
  for (const [n, wanted] of result.entries()) {
    const unclear = margins[n] !== undefined && margins[n] <= least;
    if (unclear && sequence) return true;
    const each = own[n];
    const equal = Array.isArray(wanted) ? Array.isArray(each) && wanted.every((value, k) => Math.abs(value - (each[k] as number)) <= least) : each === wanted;
    if (!unclear && !equal) return false;
  }
  return true;
}
