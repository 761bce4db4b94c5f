import type { DType, Program } from "./manifest.js";

export type Data = Float32Array | Int32Array | Uint8Array | BigInt64Array | Int8Array;
export type Tensors = Map<string, Data>;

/** A program that is ready to run. Inputs and outputs have the shapes of its specs. */
export interface Session {
  run(feeds: Tensors): Promise<Tensors>;
  close(): void;
}

export interface RuntimeOptions {
  /** Where the runtime's WASM lies, ending in a slash: see `edgevl-web-runtimes`. */
  assets: string;
  /** At most; more than one needs a page that is cross-origin isolated. */
  threads: number;
}

/** Opens the artifacts of one target. */
export interface Runtime {
  readonly name: string;
  /** Threads that it uses: one where the browser has no more to give. */
  readonly threads: number;
  open(program: Program, artifact: Uint8Array): Promise<Session>;
  /** The same artifacts by WebGPU, where the runtime has it. Throws if the browser has none. */
  byWebGpu?(): Promise<Runtime>;
}

/** Make an array of numbers in the type that a tensor has. float16 has no array here. */
export function arrayOf(dtype: DType, values: ArrayLike<number>): Data {
  switch (dtype) {
    case "float32":
      return Float32Array.from(values);
    case "int64":
      return BigInt64Array.from(values as number[], (value: number) => BigInt(value));
    case "uint8":
      return Uint8Array.from(values);
    case "int8":
      return Int8Array.from(values);
    default:
      return Int32Array.from(values);
  }
}
