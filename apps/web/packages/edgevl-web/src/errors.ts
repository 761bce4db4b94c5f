/** Why something was refused: the bundle, a picture, a text, the network, or the runtime. */
export type Reason = "bundle" | "picture" | "text" | "query" | "network" | "runtime";

/** An error that a person can act on. `message` is one sentence; anything else that is thrown is a mistake of ours. */
export class EdgeVLError extends Error {
  constructor(
    readonly reason: Reason,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = "EdgeVLError";
  }
}

export const refused = (message: string): EdgeVLError => new EdgeVLError("bundle", message);

/** A text of a file as it may be shown: control characters and what turns the reading direction are written out. */
export function plain(text: string, most = 80): string {
  const shown = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, (c) => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`);
  return shown.length > most ? `${shown.slice(0, most - 1)}…` : shown;
}
