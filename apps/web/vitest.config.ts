import { defineConfig } from "vitest/config";

export default defineConfig({ test: { include: ["packages/*/test/**/*.test.ts"], pool: "forks", maxWorkers: 1, testTimeout: 60_000 } });
