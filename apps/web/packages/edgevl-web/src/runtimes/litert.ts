import { getWebGpuDevice, loadAndCompile, loadLiteRt, supportsFeature, Tensor, type CompiledModel, type CompileOptions } from "@litertjs/core";
import { EdgeVLError } from "../errors.js";
import type { Program } from "../manifest.js";
import type { Runtime, RuntimeOptions, Session, Tensors } from "../runtime.js";

/** LiteRT.js: XNNPACK in WASM. It loads its WASM by `importScripts`, so it needs a classic worker or a page. */
export async function liteRtRuntime({ assets, threads: most }: RuntimeOptions): Promise<Runtime> {
  const folder = `${assets}litert/`;
  // It would look for its WASM, and start its threads, at the address of this worker.
  const place = { locateFile: (file: string) => folder + file, mainScriptUrlOrBlob: `${folder}litert_wasm_threaded_internal.js` };
  Object.assign(globalThis, { Module: place });
  // Its threads are built with relaxed SIMD, which not every browser has; one thread it has for all.
  const threads = most > 1 && (await supportsFeature("relaxedSimd")) && (await supportsFeature("threads")) ? most : 1;
  try {
    await loadLiteRt(folder, { threads: threads > 1 });
  } catch (error) {
    throw new EdgeVLError("runtime", "LiteRT could not be started: are its files at `assets`?", { cause: error });
  }
  const wasm = { accelerator: "wasm", cpuOptions: { numThreads: threads } } as const;
  return { name: "LiteRT.js", threads, open: (program, artifact) => open(program, artifact, wasm), byWebGpu: () => Promise.resolve(webGpu()) };
}

/** The WASM holds WebGPU, too: what it cannot compute there it would compute without, so that is refused. */
function webGpu(): Runtime {
  if (!getWebGpuDevice()) throw new EdgeVLError("runtime", "this browser has no WebGPU");
  return { name: "LiteRT.js on WebGPU", threads: 1, open: (program, artifact) => open(program, artifact, { accelerator: "webgpu" }) };
}

async function open(program: Program, artifact: Uint8Array, options: CompileOptions): Promise<Session> {
  let model: CompiledModel;
  try {
    model = await loadAndCompile(artifact, options);
  } catch (error) {
    throw new EdgeVLError("runtime", `${program.artifact} cannot be opened by LiteRT`, { cause: error });
  }
  if (options.accelerator === "webgpu" && !model.isFullyAccelerated) {
    model.delete();
    throw new EdgeVLError("runtime", "WebGPU does not compute all of the model");
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
