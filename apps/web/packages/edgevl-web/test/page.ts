// Runs in Chromium: the conformance suite on the page, and a bundle in a worker. See apps/web/test/chromium.mjs.
import { load, type LoadedModel, type LoadOptions, type Timing } from "../src/index.js";
import { onnxRuntime } from "../src/runtimes/onnx.js";
import { type Options, replay, type Report, type Suite } from "./replay.js";

async function bytes(url: string): Promise<Uint8Array> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function conformance(kind: NonNullable<Options["only"]>[number], first = false): Promise<Report> {
  const suite = (await (await fetch("/suite/conformance.json")).json()) as Suite;
  const runtime = onnxRuntime({ assets: "/runtimes/", threads: 1 });
  return replay({ suite, runtime, platform: true, only: [kind], first, read: (path) => bytes(`/suite/${path}`), source: (path) => `/suite/${path}` });
}

/** Open a bundle in a worker, replay its golden cases, and ask one of them again and again. */
async function inWorker(url: string, options: LoadOptions): Promise<unknown> {
  const model = await load(url, { assets: "/runtimes/", keep: false, ...options });
  const golden = await model.replayGolden();
  const timing = await model.bench(20);
  const { runtime, loadTimes, tried } = model;
  model.close();
  return { runtime, tried, threads: model.threads, golden, loadTimes, timing };
}

const models: LoadedModel[] = [];

/** Open a bundle to be timed in blocks, for tools/web_latency.py. */
async function openTimed(url: string, options: LoadOptions): Promise<unknown> {
  const model = await load(url, { assets: "/runtimes/", keep: false, ...options });
  const { runtime, threads, loadTimes } = model;
  return { index: models.push(model) - 1, runtime, threads, load: loadTimes.bundle + loadTimes.programs, golden: await model.replayGolden() };
}

const timed = (index: number, count: number): Promise<Timing> => (models[index] as LoadedModel).bench(count);

Object.assign(globalThis, { edgevlTest: { conformance, inWorker, openTimed, timed } });
