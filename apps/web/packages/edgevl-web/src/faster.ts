import { goldenCases, goldenPictures, replayGolden } from "./golden.js";
import type { Model } from "./model.js";

export interface Choice {
  model: Model;
  /** Why, in words for people. */
  because: string;
}

const QUERIES = 9;

/**
 * Return another model instead of the usual one if every golden case passes on it and it answers faster; the one that is
 * not returned is closed. Whatever goes wrong with the other is no error: the usual one stays.
 */
export async function faster(usual: Model, what: string, make: () => Promise<Model>): Promise<Choice> {
  let other: Model | null = null;
  try {
    other = await make();
    const { total, passed } = await replayGolden(other);
    if (!total || passed < total) return { model: usual, because: `${what} is not used: ${total - passed} of ${total} golden cases fail on it` };
    const [before, after] = await medians(usual, other);
    const compared = `${after.toFixed(1)} ms for an answer, ${before.toFixed(1)} ms without`;
    if (!(after < before)) return { model: usual, because: `${what} is not used: ${compared}` };
    const model = other;
    other = usual;
    return { model, because: `${what} is used: every golden case passes, ${compared}` };
  } catch (error) {
    return { model: usual, because: `${what} is not used: ${error instanceof Error ? error.message : String(error)}` };
  } finally {
    other?.close();
  }
}

/** Median milliseconds of both for the first golden case, in turns, so that what else the machine does falls on both. */
async function medians(...models: [Model, Model]): Promise<[number, number]> {
  const times: [number[], number[]] = [[], []];
  for (let n = 0; n < QUERIES + 1; n++) {
    for (const [which, model] of models.entries()) {
      const milliseconds = await oneQuery(model);
      if (n > 0) times[which as 0 | 1].push(milliseconds); // the first compiles
    }
  }
  const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] as number;
  return [median(times[0]), median(times[1])];
}

async function oneQuery(model: Model): Promise<number> {
  const first = (await goldenCases(model)).cases[0];
  if (!first) return NaN;
  const pictures = await goldenPictures(model, first);
  model.runner.forget();
  const begin = performance.now();
  await model.evaluate(pictures, first.texts.slice(0, 1));
  return performance.now() - begin;
}
