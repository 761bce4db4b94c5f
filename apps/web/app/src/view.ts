import type { LoadedModel } from "edgevl-web";

/** What pages share: the model, and where a picture that was chosen stays when another page is shown. */
export interface Shared {
  model: LoadedModel;
  /** Where the bundle came from, for examples; null of a folder that a person chose. */
  examples: { picture: Blob; text: string }[];
  pictures: Blob[];
}

/** A page: its content. It is made anew when the bundle changes. */
export type View = (shared: Shared) => HTMLElement;

/** How many pictures a query needs, by the sources of the manifest. */
export function picturesNeeded({ manifest }: LoadedModel): number {
  const places = manifest.programs.flatMap((program) => program.inputs.flatMap(({ from }) => {
    if (from.kind === "picture") return [from.index ?? 0];
    return from.kind === "value" ? (from.pictures ?? []) : [];
  }));
  return places.length ? Math.max(...places) + 1 : 0;
}

/** Does the model read texts? */
export const readsTexts = ({ manifest }: LoadedModel): boolean => manifest.programs.some((program) => program.inputs.some(({ from }) => from.kind === "text"));
