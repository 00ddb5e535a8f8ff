// Compiles test/*.test.ts and runs them with node's own runner; further arguments go to it.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const outdir = join(root, "build/test");
rmSync(outdir, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: readdirSync(join(root, "test"))
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => join("test", name)),
  outdir,
  bundle: true,
  packages: "external",
  format: "esm",
  platform: "node",
  sourcemap: "inline",
  logLevel: "warning",
});
const tests = readdirSync(outdir).map((name) => join(outdir, name));
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...process.argv.slice(2), ...tests], {
  stdio: "inherit",
});
process.exitCode = status ?? 1;
