import { loadAndCompile, loadLiteRt, Tensor, type CompiledModel } from "@litertjs/core";
import { EdgeVLError } from "../errors.js";
import type { Program } from "../manifest.js";
import type { Runtime, RuntimeOptions, Session, Tensors } from "../runtime.js";

/** LiteRT.js: XNNPACK in WASM. It loads its WASM by `importScripts`, so it needs a classic worker or a page. */
export async function liteRtRuntime({ assets, threads }: RuntimeOptions): Promise<Runtime> {
  const folder = `${assets}litert/`;
  // It would look for its WASM, and start its threads, at the address of this worker.
  const place = { locateFile: (file: string) => folder + file, mainScriptUrlOrBlob: `${folder}litert_wasm_threaded_internal.js` };
  Object.assign(globalThis, { Module: place });
  try {
    await loadLiteRt(folder, { threads: threads > 1 });
  } catch (error) {
    throw new EdgeVLError("runtime", "LiteRT could not be started: are its files at `assets`?", { cause: error });
  }
  return { name: "LiteRT.js", open: (program, artifact) => open(program, artifact, threads) };
}

async function open(program: Program, artifact: Uint8Array, threads: number): Promise<Session> {
  let model: CompiledModel;
  try {
    model = await loadAndCompile(artifact, { accelerator: "wasm", cpuOptions: { numThreads: threads } });
  } catch (error) {
    throw new EdgeVLError("runtime", `${program.artifact} cannot be opened by LiteRT`, { cause: error });
  }
  const names = new Set(model.getInputDetails().map((each) => each.name));
  if (program.inputs.some((spec) => !names.has(spec.name)) || names.size !== program.inputs.length) {
    throw new EdgeVLError("bundle", `${program.artifact} has other inputs than the manifest says`);
  }
  return { run: (feeds) => run(program, model, feeds), close: () => model.delete() };
}

async function run(program: Program, model: CompiledModel, feeds: Tensors): Promise<Tensors> {
  const inputs: { [name: string]: Tensor } = {};
  for (const spec of program.inputs) inputs[spec.name] = Tensor.fromTypedArray(feeds.get(spec.name) as never, spec.shape);
  const outputs = await model.run(inputs);
  const found: Tensors = new Map();
  for (const spec of program.outputs) {
    const tensor = outputs[spec.name];
    if (!tensor) throw new EdgeVLError("bundle", `${program.artifact} does not give ${spec.name}`);
    found.set(spec.name, (await tensor.data()).slice());
  }
  for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.delete();
  return found;
}
