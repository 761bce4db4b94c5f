import document from "../../../../jetson/bundle.schema.json" with { type: "json" };
import { plain, refused } from "./errors.js";
import { checkFolderName, checkRelative } from "./paths.js";
import { isFraction, type Json } from "./strict_json.js";

interface Schema { [keyword: string]: unknown }
type Entry = { owner: object; key: string | number } | null;

const DEFINITIONS = document.$defs as unknown as { [name: string]: Schema };
const FORMATS: { [name: string]: (text: string) => void } = { "relative-path": checkRelative, "folder-name": checkFolderName };

/** Hold parsed JSON against a definition of bundle.schema.json. Throws `EdgeVLError` that names file and place. */
export function checkSchema(value: Json, definition: string, file: string): void {
  try {
    check(value, DEFINITIONS[definition] as Schema, "", null);
  } catch (error) {
    throw refused(`${file} is not valid: ${error instanceof Error ? error.message : String(error)}`);
  }
}

const isObject = (value: Json): value is { [key: string]: Json } => typeof value === "object" && value !== null && !Array.isArray(value);
const at = (where: string): string => (where ? `${plain(where.slice(1))}: ` : "");
const shown = (value: Json): string => (isObject(value) ? "the object" : Array.isArray(value) ? "the list" : plain(JSON.stringify(value)));

function isType(value: Json, type: string, entry: Entry): boolean {
  switch (type) {
    case "object":
      return isObject(value);
    case "array":
      return Array.isArray(value);
    case "null":
      return value === null;
    case "integer":
      return typeof value === "number" && Number.isInteger(value) && !(entry && isFraction(entry.owner, entry.key));
    default:
      return typeof value === type;
  }
}

function check(value: Json, schema: Schema, where: string, entry: Entry): void {
  if (typeof schema.$ref === "string") check(value, DEFINITIONS[schema.$ref.split("/").pop() ?? ""] as Schema, where, entry);
  if (Array.isArray(schema.anyOf)) checkAny(value, schema.anyOf as Schema[], where, entry);
  if (typeof schema.type === "string" && !isType(value, schema.type, entry)) throw new Error(`${at(where)}${shown(value)} is no ${schema.type}`);
  if (schema.discriminator) checkKind(value, schema.discriminator as Kinds, where, entry);
  const problem = simpleProblem(value, schema);
  if (problem) throw new Error(`${at(where)}${shown(value)} ${problem}`);
  if (typeof schema.format === "string" && typeof value === "string") FORMATS[schema.format]?.(value);
  if (Array.isArray(value)) checkItems(value, schema, where);
  if (isObject(value)) checkEntries(value, schema, where);
}

function checkAny(value: Json, schemas: Schema[], where: string, entry: Entry): void {
  let first: unknown;
  for (const each of schemas) {
    try {
      check(value, each, where, entry);
      return;
    } catch (error) {
      first ??= error;
    }
  }
  throw first;
}

interface Kinds { propertyName: string; mapping: { [kind: string]: string } }

function checkKind(value: Json, kinds: Kinds, where: string, entry: Entry): void {
  const name = isObject(value) ? value[kinds.propertyName] : null;
  if (typeof name !== "string" || !Object.hasOwn(kinds.mapping, name)) {
    throw new Error(`${at(where)}${kinds.propertyName} is not one of ${Object.keys(kinds.mapping).join(", ")}`);
  }
  check(value, { $ref: kinds.mapping[name] }, where, entry);
}

/** What is wrong with a value alone, without what it holds; "" if nothing is. */
function simpleProblem(value: Json, schema: Schema): string {
  const number = (key: string) => schema[key] as number | undefined;
  if ("const" in schema && value !== schema.const) return `must be ${JSON.stringify(schema.const)}`;
  if (Array.isArray(schema.enum) && !schema.enum.includes(value)) return `must be one of ${schema.enum.join(", ")}`;
  if (typeof value === "number") {
    if (value < (number("minimum") ?? -Infinity)) return `is less than ${number("minimum")}`;
    if (value > (number("maximum") ?? Infinity)) return `is more than ${number("maximum")}`;
    if (value <= (number("exclusiveMinimum") ?? -Infinity)) return `is not more than ${number("exclusiveMinimum")}`;
  }
  if (typeof value === "string") {
    if (Array.from(value).length > (number("maxLength") ?? Infinity)) return `has more than ${number("maxLength")} characters`;
    if (typeof schema.pattern === "string" && !whole(schema.pattern).test(value)) return `does not match ${schema.pattern}`;
  }
  const size = Array.isArray(value) ? value.length : isObject(value) ? Object.keys(value).length : null;
  if (size !== null) {
    const [least, most] = Array.isArray(value) ? ["minItems", "maxItems"] : ["minProperties", "maxProperties"];
    if (size < (number(least) ?? 0)) return `has fewer than ${number(least)} entries`;
    if (size > (number(most) ?? Infinity)) return `has more than ${number(most)} entries`;
  }
  return "";
}

const whole = (pattern: string): RegExp => new RegExp(`^(?:${pattern})$`, "u");

function checkItems(value: Json[], schema: Schema, where: string): void {
  const before = (schema.prefixItems ?? []) as Schema[];
  value.forEach((each, index) => {
    const wanted = before[index] ?? (schema.items as Schema | undefined);
    if (wanted) check(each, wanted, `${where}.${index}`, { owner: value, key: index });
  });
}

function checkEntries(value: { [key: string]: Json }, schema: Schema, where: string): void {
  const properties = (schema.properties ?? {}) as { [name: string]: Schema };
  const patterns = Object.entries((schema.patternProperties ?? {}) as { [pattern: string]: Schema });
  for (const name of (schema.required ?? []) as string[]) {
    if (!(name in value)) throw new Error(`${at(where)}the object lacks ${name}`);
  }
  for (const [name, each] of Object.entries(value)) {
    const place = `${where}.${name}`;
    const entry = { owner: value, key: name };
    if (schema.propertyNames) check(name, { type: "string", ...(schema.propertyNames as Schema) }, where, null);
    const fitting = patterns.filter(([pattern]) => whole(pattern).test(name)).map(([, each]) => each);
    const wanted = Object.hasOwn(properties, name) ? [properties[name] as Schema, ...fitting] : fitting;
    for (const one of wanted) check(each, one, place, entry);
    if (wanted.length) continue;
    if (schema.additionalProperties === false) throw new Error(`${at(where)}the object may not have ${plain(name)}`);
    if (isObject(schema.additionalProperties as Json)) check(each, schema.additionalProperties as Schema, place, entry);
  }
}
