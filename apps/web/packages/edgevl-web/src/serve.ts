import { Bundle } from "./bundle.js";
import { EdgeVLError } from "./errors.js";
import { faster } from "./faster.js";
import { goldenCases, goldenPictures, replayGolden } from "./golden.js";
import { Model } from "./model.js";
import type { Calls, Progress, Reply, Request, SentPicture, Timing } from "./protocol.js";
import { Picture } from "./runner.js";
import type { Runtime, RuntimeOptions } from "./runtime.js";

type Handlers = { [name in keyof Calls]: (...given: Calls[name][0]) => Promise<Calls[name][1]> };

/** Answer the page's requests in a worker, with one runtime. */
export function serve(makeRuntime: (options: RuntimeOptions) => Promise<Runtime> | Runtime): void {
  const scope = globalThis as unknown as DedicatedWorkerGlobalScope;
  const handlers = handlersOf(makeRuntime, (progress) => scope.postMessage({ progress } satisfies Progress));
  scope.onmessage = async ({ data }: MessageEvent<Request>) => {
    let reply: Reply;
    try {
      const handle = handlers[data.name] as (...given: unknown[]) => Promise<unknown>;
      reply = { id: data.id, value: await handle(...data.arguments) };
    } catch (error) {
      const reason = error instanceof EdgeVLError ? error.reason : null;
      reply = { id: data.id, error: { reason, message: error instanceof Error ? error.message : String(error) } };
    }
    scope.postMessage(reply);
  };
}

function handlersOf(makeRuntime: (options: RuntimeOptions) => Promise<Runtime> | Runtime, tell: (text: string) => void): Handlers {
  let opened: Model | null = null;
  const pictures = new Map<number, Picture>();
  let last = 0;
  const model = (): Model => {
    if (!opened) throw new EdgeVLError("query", "no bundle is open");
    return opened;
  };
  const picture = async (given: SentPicture | number): Promise<Picture> => {
    if (typeof given !== "number") return model().picture(given);
    const found = pictures.get(given);
    if (!found) throw new EdgeVLError("query", "this picture is no longer looked at");
    return found;
  };
  const all = (given: (SentPicture | number)[]): Promise<Picture[]> => Promise.all(given.map(picture));
  return {
    async open(source, options, { keep, webgpu }) {
      const begin = performance.now();
      tell("reading the bundle");
      const bundle = await Bundle.open("url" in source ? source.url : source.files, { keep });
      const read = performance.now();
      tell("starting the runtime");
      const runtime = await makeRuntime(options);
      tell("opening the model");
      opened = await Model.open(bundle, runtime);
      const times = { bundle: read - begin, programs: performance.now() - read };
      let tried: string | null = null;
      if (webgpu) {
        tell("trying WebGPU");
        ({ model: opened, because: tried } = await faster(opened, "WebGPU", async () => {
          if (!runtime.byWebGpu) throw new EdgeVLError("runtime", "the ONNX Runtime that is shipped has none");
          return Model.open(bundle, await runtime.byWebGpu());
        }));
      }
      return { manifest: bundle.manifest, labels: bundle.labels, runtime: opened.runtime, threads: runtime.threads, tried, times };
    },
    async look(given) {
      pictures.set(++last, await picture(given));
      return last;
    },
    unlook(number) {
      pictures.delete(number);
      return Promise.resolve(null);
    },
    ask: async (given, texts) => model().ask(known(given, pictures), texts),
    evaluate: async (given, texts, along) => model().evaluate(await all(given), texts, along),
    embedText: (text) => model().embed({ text }),
    embedLabel: (label) => model().embedLabel(label),
    embedPicture: async (given) => model().embed({ picture: await picture(given) }),
    async checkFiles() {
      await model().bundle.checkFiles();
      return null;
    },
    golden: () => replayGolden(model()),
    bench: (count) => timed(model(), count),
  };
}

/** Pictures that are looked at as they are, others as they were sent: `ask` decodes and times them. */
function known(given: (SentPicture | number)[], pictures: ReadonlyMap<number, Picture>): (SentPicture | Picture)[] {
  return given.map((each) => {
    if (typeof each !== "number") return each;
    const found = pictures.get(each);
    if (!found) throw new EdgeVLError("query", "this picture is no longer looked at");
    return found;
  });
}

/** Time queries of the first golden case, from its file and words to the answer, and the model alone. */
async function timed(model: Model, count: number): Promise<Timing> {
  const { cases: [first] } = await goldenCases(model);
  if (!first) throw new EdgeVLError("bundle", "there is no golden case to time");
  const files = await Promise.all(first.pictures.map((path) => model.bundle.files.read(path)));
  const found: Timing = { model: [], pipeline: [], first: 0 };
  const texts = first.texts.slice(0, 1);
  for (let n = 0; n < count + 1; n++) {
    model.runner.forget();
    const begin = performance.now();
    await model.ask(files, texts);
    const whole = performance.now() - begin;
    if (n === 0) found.first = whole;
    else found.pipeline.push(whole);
  }
  const prepared = await goldenPictures(model, first);
  await model.ask(prepared, texts);
  for (let n = 0; n < count; n++) {
    model.runner.forget();
    const begin = performance.now();
    await model.evaluate(prepared, texts);
    found.model.push(performance.now() - begin);
  }
  return found;
}
