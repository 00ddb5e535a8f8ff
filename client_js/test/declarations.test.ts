import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

/** Without comments and texts. */
function codeOf(declarations: string): string {
  return declarations.replace(/\/\*[^]*?\*\/|\/\/.*$/gm, "").replace(/"[^"\n]*"|'[^'\n]*'/g, '""');
}

test("no any in what is published", (t) => {
  const outDir = mkdtempSync(join(tmpdir(), "tidegate-client-"));
  t.after(() => rmSync(outDir, { recursive: true }));
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "--emitDeclarationOnly", "--outDir", outDir]);
  const files = readdirSync(outDir, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".d.ts"));
  assert.ok(files.includes("index.d.ts") && files.includes(join("testing", "index.d.ts")), files.join());
  for (const file of files) {
    const lines = codeOf(readFileSync(join(outDir, file), "utf8")).split("\n");
    assert.deepEqual(lines.filter((line) => /\bany\b/.test(line)), [], file);
  }
});
