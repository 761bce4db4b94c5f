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
  checkInterface(program, session);
  return {
    run: (feeds) => run(program, session, feeds),
    close: () => void session.release().catch(() => undefined),
  };
}

/** Names, types and shapes of the artifact must be those of the manifest. */
function checkInterface(program: Program, session: ort.InferenceSession): void {
  const sides = [[program.inputs, session.inputMetadata], [program.outputs, session.outputMetadata]] as const;
  for (const [specs, found] of sides) {
    const own = new Map(found.map((each) => [each.name, each.isTensor ? `${each.type} ${each.shape.join(" ")}` : ""]));
    const same = own.size === specs.length && specs.every((spec) => own.get(spec.name) === `${spec.dtype} ${spec.shape.join(" ")}`);
    if (!same) throw new EdgeVLError("bundle", `${program.artifact} has other inputs or outputs than the manifest says`);
  }
}

async function run(program: Program, session: ort.InferenceSession, feeds: Tensors): Promise<Tensors> {
  const inputs: { [name: string]: ort.Tensor } = {};
  for (const spec of program.inputs) inputs[spec.name] = new ort.Tensor(spec.dtype as "float32", feeds.get(spec.name) as Float32Array, spec.shape);
  const outputs = await session.run(inputs);
  return new Map(program.outputs.map((spec) => [spec.name, outputs[spec.name]?.data as Data]));
}
