/** What `manifest.json` says, schema 2: see docs/bundle.md. */
export type DType = "float32" | "float16" | "int32" | "int64" | "int8" | "uint8";

export type Source =
  | { kind: "picture"; index?: number; processing?: string }
  | { kind: "text"; index?: number; processing?: string; part?: "ids" | "mask" }
  | { kind: "value"; name: string; pictures?: number[] | null; texts?: number[] | null }
  | { kind: "state"; name: string; start?: string | null }
  | { kind: "token" }
  | { kind: "step" };

export interface OutputSpec {
  name: string;
  dtype: DType;
  shape: number[];
  layout: string;
  range?: [number, number] | null;
}

export interface InputSpec extends OutputSpec {
  kind?: "tensor" | "image";
  from: Source;
}

export interface Program {
  name: string;
  artifact: string;
  precision: string;
  inputs: InputSpec[];
  outputs: OutputSpec[];
}

export interface ImageProcessing {
  size: number;
  orientation: "exif";
  color: "RGB";
  background: "white";
  geometry: "squash" | "shortest-edge" | "letterbox";
  shortest_edge?: number | null;
  kernel: "triangle" | "cubic";
  antialias: true;
  passes: "horizontal-vertical";
  rounding: "uint8-per-pass";
}

export interface TextProcessing {
  kind: "wordpiece" | "byte-bpe" | "unigram";
  file: string;
  length: number;
  vocab_size: number;
  pad_id: number;
  start_id: number | null;
  stop_id: number | null;
  empty?: "refuse" | "allow";
}

export type Decoding =
  | { kind: "classify"; output: string; activation?: Activation }
  | { kind: "rank"; picture: string; text: string; scale: number; bias?: number; activation?: Activation; prompts?: string[] }
  | { kind: "generate"; program: string; output: string; text?: string; start: number; stop: number; steps: number }
  | { kind: "box"; output: string; format?: "center" | "corners" };

export type Activation = "softmax" | "sigmoid";

export interface FileEntry {
  sha256: string;
  bytes: number;
}

export interface Manifest {
  schema_version: 2;
  name: string;
  task: string;
  target: string;
  precision: string;
  layout?: string;
  programs: Program[];
  decoding: Decoding;
  image_processing: { [name: string]: ImageProcessing };
  text_processing: { [name: string]: TextProcessing };
  labels?: { file: string; count: number } | null;
  golden: string;
  versions: { [name: string]: string };
  license: string;
  files: { [path: string]: FileEntry };
}
