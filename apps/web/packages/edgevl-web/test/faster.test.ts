// Is another runtime taken? The models are real; what stands for a GPU is the same runtime, slowed or falsified at its seam.
import { expect, it } from "vitest";
import { Bundle } from "../src/bundle.js";
import { faster } from "../src/faster.js";
import { Model } from "../src/model.js";
import type { Runtime, Session } from "../src/runtime.js";
import { onnxRuntime } from "../src/runtimes/onnx.js";
import { source, suite } from "./node.js";

const right = onnxRuntime({ assets: "", threads: 1 });
const path = (suite.bundles.asked as { path: string }).path;
const pause = () => new Promise((resolve) => setTimeout(resolve, 50));

/** The runtime under another name, with something done to each run. */
const changed = (name: string, run: (session: Session) => Session["run"]): Runtime => ({
  ...right, name, open: async (program, artifact) => {
    const session = await right.open(program, artifact);
    return { run: run(session), close: () => session.close() };
  },
});
const slow = (name: string): Runtime => changed(name, (session) => async (feeds) => {
  await pause();
  return session.run(feeds);
});
const wrong = changed("wrong", (session) => async (feeds) => new Map([...await session.run(feeds)].map(([name, data]) => [name, (data as Float32Array).map((value) => 1.01 * value)])));
const open = async (runtime: Runtime): Promise<Model> => Model.open(await Bundle.open(source(path)), runtime);

it.each([
  ["a faster one that is right", slow("usual"), right, right.name, /^It is used: every golden case passes, [\d.]+ ms for an answer, [\d.]+ ms without$/],
  ["a slower one", right, slow("slow"), right.name, /^It is not used: [\d.]+ ms for an answer, [\d.]+ ms without$/],
  ["a faster one that is wrong", slow("usual"), wrong, "usual", /^It is not used: \d of \d golden cases fail on it$/],
])("%s", async (_, usual, other, taken, because) => {
  const choice = await faster(await open(usual), "It", () => open(other));
  expect(choice.model.runtime).toBe(taken);
  expect(choice.because).toMatch(because);
  const picture = Object.keys(choice.model.bundle.manifest.files).find((name) => name.endsWith(".png")) as string;
  expect(await choice.model.ask([await choice.model.bundle.files.read(picture)], ["a tree"])).toHaveLength(1); // it is not closed
});

it("one that cannot be opened", async () => {
  const choice = await faster(await open(right), "It", () => Promise.reject(new Error("no adapter")));
  expect(choice).toMatchObject({ because: "It is not used: no adapter", model: { runtime: right.name } });
});
