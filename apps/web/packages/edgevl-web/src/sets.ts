import { RANGES } from "./code_points.js";

/** A set of code points of docs/bundle.md, which does not move with the browser's version of Unicode. */
export class CodePoints {
  private readonly starts: number[] = [];
  private readonly ends: number[] = [];

  constructor(ranges: string) {
    for (const part of ranges.trim().split(/\s+/)) {
      const [first, last] = part.split("-");
      this.starts.push(parseInt(first as string, 16));
      this.ends.push(parseInt(last ?? (first as string), 16));
    }
  }

  has(point: number): boolean {
    let [low, high] = [0, this.starts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.starts[middle] as number) <= point) low = middle + 1;
      else high = middle;
    }
    return low > 0 && point <= (this.ends[low - 1] as number);
  }
}

type Name = keyof typeof RANGES;
const made = new Map<Name, CodePoints>();

/** Return a set by its name; it is made once. */
export function codePoints(name: Name): CodePoints {
  let found = made.get(name);
  if (!found) made.set(name, (found = new CodePoints(RANGES[name])));
  return found;
}

/** Lower case of each code point by itself, without Unicode's rules of context. */
export const lower = (text: string): string => Array.from(text, (c) => c.toLowerCase()).join("");
