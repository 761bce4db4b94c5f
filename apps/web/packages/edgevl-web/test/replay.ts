// Replays the conformance suite (docs/conformance.md) with this library: in Node, and in a browser.
import { Bundle } from "../src/bundle.js";
import { decodePicture } from "../src/decode.js";
import type { Decoded, Rows } from "../src/decodings.js";
import { EdgeVLError } from "../src/errors.js";
import { sha256 } from "../src/files.js";
import { Model } from "../src/model.js";
import { type Raw, upright } from "../src/raster.js";
import { toTensor } from "../src/resize.js";
import { Picture } from "../src/runner.js";
import type { Runtime } from "../src/runtime.js";

export interface Entry {
  file: string;
  shape: number[];
  snr_db?: number;
}

export interface About {
  file: string;
  format: string;
  lossless: boolean;
  raw: string | null;
  width: number;
  height: number;
  channels: 1 | 3 | 4;
  depth: number;
  orientation: number;
}

export interface Case {
  id: string;
  kind: "pixels" | "ids" | "answer" | "refuse";
  bundle: string;
  processing: string;
  picture: string;
  sha256: string | null;
  tensor_file: string | null;
  text: string;
  ids: number[] | null;
  mask: number[] | null;
  pictures: string[];
  texts: string[];
  values: { [output: string]: Entry };
  result: (string | number | number[])[];
  margins: number[];
  unclear: number;
  shares: Entry | null;
  words: string | null;
  runs: { [program: string]: number } | null;
  needs: string | null;
}

export interface Suite {
  version: number;
  bundles: { [name: string]: { path: string } };
  pictures: { [name: string]: About };
  cases: Case[];
}

export interface Options {
  suite: Suite;
  /** The bytes of a file of the suite. */
  read: (path: string) => Promise<Uint8Array>;
  /** What a bundle of the suite is opened from. */
  source: (path: string) => Parameters<typeof Bundle.open>[0];
  runtime: Runtime;
  /** Decode files as the platform does, too: where there is one. */
  platform: boolean;
  only?: Case["kind"][];
  /** Stop at the first problem. */
  first?: boolean;
}

export interface Report {
  counts: { [kind: string]: number };
  problems: string[];
}

/** Run every case; return how many of each kind there were, and what went wrong. */
export async function replay(options: Options): Promise<Report> {
  if (options.suite.version !== 1) throw new Error("another version of the suite");
  const report: Report = { counts: {}, problems: [] };
  const checks = { pixels: pixels(options), ids: ids(options), answer: answer(options), refuse: refuse(options) };
  for (const each of options.suite.cases) {
    if (options.first && report.problems.length) break;
    if (options.only && !options.only.includes(each.kind)) continue;
    report.counts[each.kind] = (report.counts[each.kind] ?? 0) + 1;
    try {
      const problem = await checks[each.kind](each);
      if (problem) report.problems.push(`${each.id}: ${problem}`);
    } catch (error) {
      report.problems.push(`${each.id}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    }
  }
  return report;
}

type Check = (each: Case) => Promise<string>;

/** Remember what was made of a name. */
function once<T>(make: (name: string) => Promise<T>): (name: string) => Promise<T> {
  const made = new Map<string, Promise<T>>();
  return (name) => {
    let found = made.get(name);
    if (!found) made.set(name, (found = make(name)));
    return found;
  };
}

const bundles = ({ suite, source }: Options) => once((name) => Bundle.open(source((suite.bundles[name] as { path: string }).path), { keep: false }));

async function refusal<T>(work: () => Promise<T> | T): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof EdgeVLError) return null;
    throw error;
  }
}

async function rawOf({ suite, read }: Options, name: string): Promise<Raw | null> {
  const about = suite.pictures[name] as About;
  if (!about.raw) return null;
  const bytes = await read(about.raw);
  const data = about.depth === 16 ? new Uint16Array(bytes.slice().buffer) : bytes;
  return { width: about.width, height: about.height, channels: about.channels, data, orientation: about.orientation };
}

function pixels(options: Options): Check {
  const open = bundles(options);
  const raws = once((name) => rawOf(options, name));
  const decoded = once(async (name) => refusal(async () => decodePicture(await options.read((options.suite.pictures[name] as About).file))));
  return async (each) => {
    const processing = (await open(each.bundle)).manifest.image_processing[each.processing];
    if (!processing) return "no such processing";
    const about = options.suite.pictures[each.picture] as About;
    const raw = await raws(each.picture);
    const own = raw && (await refusal(() => toTensor(upright(raw), processing)));
    if (raw && (own ? await sha256(own) : null) !== each.sha256) return "other pixels, from raw samples";
    const byFile = about.format === "png" || !about.raw || (options.platform && ["jpeg", "webp", "gif", "bmp"].includes(about.format));
    if (!byFile) return "";
    const picture = await decoded(each.picture);
    const tensor = picture && (await refusal(() => toTensor(picture, processing)));
    if (about.lossless) return (tensor ? await sha256(tensor) : null) === each.sha256 ? "" : "other pixels, from the file";
    if (!tensor || !each.tensor_file) return tensor || each.tensor_file ? "the file is refused" : "";
    const wanted = await options.read(each.tensor_file);
    const mean = tensor.reduce((sum, value, n) => sum + Math.abs(value - (wanted[n] as number)), 0) / wanted.length;
    return mean <= 8 ? "" : `pixels of the file are ${mean.toFixed(1)} levels away`;
  };
}

function ids(options: Options): Check {
  const open = bundles(options);
  return async (each) => {
    const codec = (await open(each.bundle)).texts.get(each.processing);
    if (!codec) return "no such processing";
    const own = await refusal(() => codec.encode(each.text));
    if (JSON.stringify(own && [...own]) !== JSON.stringify(each.ids)) return `other ids: ${own?.join(" ")}`;
    if (JSON.stringify(own && [...codec.mask(each.text)]) !== JSON.stringify(each.mask)) return "another mask";
    return (own && codec.decode([...own])) === each.words ? "" : "other words";
  };
}

async function rows({ read }: Options, entry: Entry): Promise<Rows> {
  const [count, width] = entry.shape as [number, number];
  const data = new Float32Array((await read(entry.file)).slice().buffer);
  return Array.from({ length: count }, (_, n) => Float64Array.from(data.subarray(n * width, (n + 1) * width)));
}

function answer(options: Options): Check {
  const open = bundles(options);
  let last: { name: string; model: Model } | null = null;
  return async (each) => {
    if (last?.name !== each.bundle) {
      last?.model.close();
      last = { name: each.bundle, model: await Model.open(await open(each.bundle), options.runtime) };
    }
    const { model } = last;
    const pictures = await Promise.all(each.pictures.map(async (name) => new Picture(upright((await rawOf(options, name)) as Raw))));
    model.runner.forget();
    for (const name of model.runner.calls.keys()) model.runner.calls.set(name, 0);
    const own = await model.evaluate(pictures, each.texts, each.words === null ? null : (each.result as number[]));
    const runs = Object.fromEntries(model.runner.calls);
    if (each.runs && JSON.stringify(sorted(runs)) !== JSON.stringify(sorted(each.runs))) return `other runs: ${JSON.stringify(runs)}`;
    const wanted: { [output: string]: Rows } = {};
    for (const [output, entry] of Object.entries(each.values)) {
      wanted[output] = await rows(options, entry);
      const snr = snrDb(wanted[output], own.values[output] ?? []);
      if (!(snr >= (entry.snr_db as number))) return `${output}: ${snr.toFixed(1)} dB`;
    }
    if (each.shares) {
      const shares = model.decoded(wanted).shares ?? [];
      const recorded = await rows(options, each.shares);
      if (!recorded.every((row, y) => row.every((value, x) => Math.abs(value - (shares[y]?.[x] ?? NaN)) <= 1e-5))) return "other shares";
    }
    const margins = Object.keys(wanted).length ? model.decoded(wanted).margins : [];
    if (!each.margins.every((margin, n) => Math.abs(margin - (margins[n] ?? NaN)) <= 1e-4)) return "other margins";
    const free = each.words === null ? own : await model.evaluate(pictures, each.texts);
    return sameResult(each, free) ? "" : `another result: ${JSON.stringify(free.result)}`;
  };
}

const sorted = (values: { [name: string]: number }) => Object.entries(values).sort();

function snrDb(wanted: Rows, own: Rows): number {
  let [signal, noise] = [0, wanted.length === own.length ? 0 : Infinity];
  wanted.forEach((row, y) => {
    if (row.length !== own[y]?.length) noise = Infinity;
    row.forEach((value, x) => {
      signal += value ** 2;
      noise += (value - (own[y]?.[x] ?? NaN)) ** 2;
    });
  });
  return noise === 0 ? 300 : 10 * Math.log10(signal / noise);
}

function sameResult(each: Case, { result, words }: Decoded): boolean {
  if (result.length !== each.result.length) return false;
  if (!each.margins.length) return result.flat().every((value, n) => Math.abs((value as number) - (each.result.flat()[n] as number)) <= each.unclear);
  for (const [n, margin] of each.margins.entries()) {
    if (margin <= each.unclear && each.words !== null) return true;
    if (margin > each.unclear && result[n] !== each.result[n]) return false;
  }
  return each.words === null || words === each.words;
}

function refuse(options: Options): Check {
  return async (each) => {
    const source = options.source(each.bundle);
    if (each.needs === "folder" && (typeof source === "string" || !("list" in (source as object)))) return "";
    const model = await refusal(async () => {
      const bundle = await Bundle.open(source, { keep: false });
      await bundle.checkFiles();
      return Model.open(bundle, options.runtime);
    });
    return model ? "it was opened" : "";
  };
}
