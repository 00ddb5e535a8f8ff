// Builds dist/ (the npm package) and the browser files that the gateway serves.
//   node scripts/build.mjs [--dist DIR] [--static DIR] [--check]
// --check builds into a temporary directory and compares the browser files with those in --static.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { measure } from "./sizes.mjs";

const OURS = "tidegate-client.min.js";
const STOCK = ["socket.io.min.js", "socket.io.msgpack.min.js"];
// What the published msgpack build holds besides the packages that ours bundles too.
const MSGPACK_PACKAGES = ["component-emitter", "notepack.io", "socket.io-msgpack-parser"];

// As bundlers do it, so that a const enum leaves nothing but the values: either option would keep it as an object.
const INLINE = ["--isolatedModules", "false", "--verbatimModuleSyntax", "false"];

const root = fileURLToPath(new URL("..", import.meta.url));
process.chdir(root);
const { values: args } = parseArgs({
  options: {
    dist: { type: "string", default: join(root, "dist") },
    static: { type: "string", default: join(root, "../gateway/static") },
    check: { type: "boolean", default: false },
  },
});

const readJson = (path) => JSON.parse(readFileSync(path, "utf8"));
const { version } = readJson("package.json");

const browser = {
  absWorkingDir: root,
  bundle: true,
  format: "iife",
  minify: true,
  platform: "browser",
  target: "es2022",
  legalComments: "none",
  write: false,
  logLevel: "warning",
};

/** A module for each of ours: bundlers take what is used, and two entries share what they share. */
function buildPackage(outdir) {
  rmSync(outdir, { recursive: true, force: true });
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  for (const project of [".", "src/cli"]) {
    const options = ["-p", project, "--noEmit", "false", "--rootDir", "src", "--outDir", outdir, ...INLINE];
    execFileSync(process.execPath, [tsc, ...options, "--sourceMap", "--inlineSources"], { stdio: "inherit" });
  }
  // The entry of the browser file is of no use to others.
  for (const ending of ["js", "js.map", "d.ts"]) rmSync(join(outdir, `browser.${ending}`));
}

function packagesOf(metafile) {
  const names = Object.keys(metafile.inputs).map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]);
  return new Set(names.filter((name) => name !== undefined));
}

function licence(name) {
  const folder = join("node_modules", name);
  const { license, version } = readJson(join(folder, "package.json"));
  if (license !== "MIT") throw new Error(`${name} is ${license}, not MIT: look at it before bundling it`);
  const file = ["LICENSE", "LICENSE.md", "LICENSE.txt", "License"].find((each) => existsSync(join(folder, each)));
  const text = file && readFileSync(join(folder, file), "utf8").replaceAll("\r\n", "\n").trim();
  return { name, version, text };
}

function licences(packages) {
  const all = [...packages].sort().map(licence);
  const missing = all.filter(({ text }) => !text).map(({ name }) => name);
  if (missing.length) throw new Error(`no licence text: ${missing.join(", ")}`);
  const list = all.map(({ name, version }) => `  ${name} ${version}`).join("\n");
  const texts = all.map(({ name, text }) => `${"-".repeat(78)}\n${name}\n\n${text}\n`);
  return (
    `The JavaScript files in this directory contain the following packages, all under the MIT licence.\n` +
    `tidegate-client itself is covered by the licence of tidegate.\n\n${list}\n\n${texts.join("\n")}`
  );
}

async function buildStatic(outdir) {
  mkdirSync(outdir, { recursive: true });
  const stock = join("node_modules/socket.io-client");
  const { version: stockVersion } = readJson(join(stock, "package.json"));
  const ours = await build({
    ...browser,
    entryPoints: ["src/browser.ts"],
    globalName: "tidegate",
    metafile: true,
    banner: { js: `/*! tidegate-client ${version}, with socket.io-client ${stockVersion}. MIT; see LICENSES.txt */` },
  });
  writeFileSync(join(outdir, OURS), ours.outputFiles[0].contents);
  for (const name of STOCK) cpSync(join(stock, "dist", name), join(outdir, name));
  writeFileSync(join(outdir, "LICENSES.txt"), licences(new Set([...packagesOf(ours.metafile), ...MSGPACK_PACKAGES])));
}

async function inTemporary(work) {
  const directory = mkdtempSync(join(tmpdir(), "tidegate-client-"));
  try {
    return await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Fails where a part of the package is over its budget. */
async function reportSizes(dist) {
  const rows = await inTemporary(async (directory) => {
    // Wherever it was built: package.json tells bundlers that what is not used may be left out.
    cpSync("package.json", join(directory, "package.json"));
    cpSync(dist, join(directory, "dist"), { recursive: true });
    return measure(root, join(directory, "dist"));
  });
  for (const { name, added, budget } of rows) console.log(`${name}: ${added} of ${budget} bytes, with gzip`);
  const over = rows.filter(({ added, budget }) => added > budget);
  if (over.length) throw new Error(`over the size budget: ${over.map(({ name }) => name).join("; ")}`);
}

function differences(expected, actual) {
  return [OURS, ...STOCK, "LICENSES.txt"].filter((name) => {
    const committed = join(actual, name);
    return !existsSync(committed) || !readFileSync(join(expected, name)).equals(readFileSync(committed));
  });
}

if (args.check) {
  await inTemporary(async (directory) => {
    const dist = join(directory, "dist");
    buildPackage(dist);
    await buildStatic(directory);
    await reportSizes(dist);
    const stale = differences(directory, args.static);
    if (stale.length) {
      console.error(`not what the sources build: ${stale.join(", ")} (run scripts/client)`);
      process.exitCode = 1;
    }
  });
} else {
  buildPackage(args.dist);
  await buildStatic(args.static);
  await reportSizes(args.dist);
}
