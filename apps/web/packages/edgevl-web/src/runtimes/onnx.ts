import * as ort from "onnxruntime-web/wasm";
import { EdgeVLError } from "../errors.js";
import type { Program } from "../manifest.js";
import type { Data, Runtime, RuntimeOptions, Session, Tensors } from "../runtime.js";

/** ONNX Runtime in WASM. */
export function onnxRuntime({ assets, threads }: RuntimeOptions): Runtime {
  ort.env.wasm.numThreads = threads;
  if (assets) ort.env.wasm.wasmPaths = { mjs: `${assets}ort/ort-wasm-simd-threaded.mjs`, wasm: `${assets}ort/ort-wasm-simd-threaded.wasm` };
  return { name: `onnxruntime-web ${ort.env.versions.web ?? ""}`.trim(), threads, open };
}

async function open(program: Program, artifact: Uint8Array): Promise<Session> {
  let session: ort.InferenceSession;
  try {
    session = await ort.InferenceSession.create(artifact, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new EdgeVLError("runtime", `${program.artifact} cannot be opened by ONNX Runtime`, { cause: error });
  }
  checkNames(program, session);
  return {
    run: (feeds) => run(program, session, feeds),
    close: () => void session.release().catch(() => undefined),
  };
}

/** The artifact's own names must be those of the manifest. */
function checkNames(program: Program, session: ort.InferenceSession): void {
  const same = (a: readonly string[], b: { name: string }[]) => [...a].sort().join("\0") === b.map((spec) => spec.name).sort().join("\0");
  if (!same(session.inputNames, program.inputs) || !same(session.outputNames, program.outputs)) {
    throw new EdgeVLError("bundle", `${program.artifact} has other inputs or outputs than the manifest says`);
  }
}

async function run(program: Program, session: ort.InferenceSession, feeds: Tensors): Promise<Tensors> {
  const inputs: { [name: string]: ort.Tensor } = {};
  for (const spec of program.inputs) inputs[spec.name] = new ort.Tensor(spec.dtype as "float32", feeds.get(spec.name) as Float32Array, spec.shape);
  const outputs = await session.run(inputs);
  return new Map(program.outputs.map((spec) => [spec.name, outputs[spec.name]?.data as Data]));
}
