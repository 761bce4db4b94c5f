import type { RuntimeOptions } from "./runtime.js";
import type { Answer } from "./model.js";
import type { Decoded } from "./decodings.js";
import type { Manifest } from "./manifest.js";
import type { Reason } from "./errors.js";
import type { Raw } from "./raster.js";

/** What a bundle is opened from, in a form that can be sent to a worker. */
export type SentSource = { url: string } | { files: Map<string, Blob> };
export type SentPicture = Blob | Uint8Array | Raw | ImageData;

/** What the worker can do: name → [arguments, answer]. Pictures that are looked at are known by a number. */
export interface Calls {
  open: [[SentSource, RuntimeOptions, { keep: boolean; webgpu: boolean }], Opened];
  look: [[SentPicture], number];
  unlook: [[number], null];
  ask: [[(SentPicture | number)[], string[]], Answer[]];
  evaluate: [[(SentPicture | number)[], string[], number[] | null], Decoded];
  embedText: [[string], Float32Array];
  embedLabel: [[string], Float32Array];
  embedPicture: [[SentPicture | number], Float32Array];
  checkFiles: [[], null];
  golden: [[], Golden];
  bench: [[number], Timing];
}

export interface Opened {
  manifest: Manifest;
  labels: string[];
  runtime: string;
  threads: number;
  /** What came of trying WebGPU; null if that was not asked for. */
  tried: string | null;
  /** Milliseconds: manifest and tokenizers, then programs. */
  times: { bundle: number; programs: number };
}

export interface Golden {
  total: number;
  passed: number;
  problems: string[];
}

/** Milliseconds of `n` queries of the first golden case. */
export interface Timing {
  model: number[];
  pipeline: number[];
  first: number;
}

export interface Request {
  id: number;
  name: keyof Calls;
  arguments: unknown[];
}

export type Reply = { id: number; value: unknown } | { id: number; error: { reason: Reason | null; message: string } };
export interface Progress { progress: string }
