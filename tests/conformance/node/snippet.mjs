// Runs one snippet of the documentation: {code, url, expected, inMemory}. It has succeeded when its module has been
// evaluated and the lines of `expected` were printed, in their order.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { format } from "node:util";
import { build } from "../../../client_js/node_modules/esbuild/lib/main.js";
import { FACTOR } from "./clients.mjs";
import { failAndExit, printAndExit } from "./output.mjs";

const { code, url, expected, inMemory } = JSON.parse(process.argv[2]);
const client = fileURLToPath(new URL("../../../client_js", import.meta.url));
const ours = (name) => join(client, "dist", name);

/** With `inMemory`, what `connect()` gives is connected to the double of `tidegate-client/testing`. */
const IN_MEMORY = `
  export * from ${JSON.stringify(ours("index.js"))};
  import { MemoryGateway } from "tidegate-client/testing";
  const gateway = new MemoryGateway();
  export const connect = (url, options) => gateway.connect(options);
`;

const printed = [];
console.log = (...values) => printed.push(...format(...values).split("\n"));

const missing = () => {
  let from = 0;
  return expected.find((line) => {
    const at = printed.indexOf(line, from);
    from = at + 1;
    return at < 0;
  });
};

process.on("uncaughtException", (error) => void failAndExit(error));
setTimeout(() => failAndExit(new Error(`never: ${missing() ?? "the end of the module"}\nprinted:\n${printed.join("\n")}`)), 15_000 * FACTOR);

const directory = mkdtempSync(join(tmpdir(), "tidegate-snippet-"));
try {
  const file = join(directory, "snippet.mjs");
  await build({
    stdin: { contents: code.replaceAll("https://gateway.example", url), resolveDir: client, loader: "tsx" },
    outfile: file,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "es2022",
    jsx: "automatic",
    logLevel: "error",
    // socket.io-client's dependencies are CommonJS, and ask for Node's modules.
    banner: { js: `import { createRequire } from "node:module"; const require = createRequire(${JSON.stringify(pathToFileURL(join(client, "package.json")).href)});` },
    plugins: [
      {
        name: "tidegate-client",
        setup({ onResolve, onLoad }) {
          onResolve({ filter: /^tidegate-client(\/|$)/ }, ({ path }) => {
            const name = path.slice("tidegate-client".length + 1);
            if (!name && inMemory) return { path: "in-memory", namespace: "in-memory" };
            return { path: ours(name ? `${name}/index.js` : "index.js") };
          });
          onLoad({ filter: /.*/, namespace: "in-memory" }, () => ({ contents: IN_MEMORY, resolveDir: client }));
        },
      },
    ],
  });
  await import(pathToFileURL(file).href);
  while (missing() !== undefined) await new Promise((resolve) => setTimeout(resolve, 5));
  await printAndExit(printed);
} catch (error) {
  await failAndExit(error);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
