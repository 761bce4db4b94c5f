import { describe, expect, it } from "vitest";
import { onnxRuntime } from "../src/runtimes/onnx.js";
import { read, source, suite } from "./node.js";
import { beyond } from "./beyond.js";
import { type Case, replay } from "./replay.js";

const runtime = onnxRuntime({ assets: "", threads: 1 });

it("what the suite holds no case of is right, too", async () => {
  expect(await beyond()).toEqual([]);
});

describe("the conformance suite, in Node", () => {
  for (const kind of ["pixels", "ids", "answer", "refuse"] as Case["kind"][]) {
    it(`passes: ${kind}`, { timeout: 300_000 }, async () => {
      const { counts, problems } = await replay({ suite, read, source, runtime, platform: false, only: [kind] });
      expect(problems).toEqual([]);
      expect(counts[kind]).toBeGreaterThan(30);
    });
  }
});
