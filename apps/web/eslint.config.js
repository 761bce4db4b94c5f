import js from "@eslint/js";
import { defineConfig } from "eslint/config";
import ts from "typescript-eslint";

export default defineConfig(
  { ignores: ["**/dist/**", "**/node_modules/**", "**/test/examples/**", "packages/planted-*/**"] },
  js.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [ts.configs.strictTypeChecked, ts.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: { allowDefaultProject: ["vitest.config.ts"] }, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-non-null-assertion": "error",
      "@typescript-eslint/consistent-indexed-object-style": "off", // both forms read well
      "@typescript-eslint/non-nullable-type-assertion-style": "off", // it asks for what the rule above forbids
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "max-lines": ["error", 400],
    },
  },
  { files: ["app/public/sw.js"], languageOptions: { globals: { self: "readonly", caches: "readonly", fetch: "readonly", Request: "readonly" } } },
  { files: ["**/*.mjs", "**/*.js"], languageOptions: { globals: { console: "readonly", process: "readonly", URL: "readonly", globalThis: "readonly", crossOriginIsolated: "readonly", document: "readonly", fetch: "readonly", innerWidth: "readonly", performance: "readonly" } } },
);
