// What users of the package download, with gzip, over what they have anyway (socket.io-client, React).
import { build } from "esbuild";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const STOCK = `export { io, Manager, Socket, NodeXHR, NodeWebSocket, WebTransport } from "socket.io-client";`;
const CORE = `${STOCK} export { connect } from "tidegate-client/core";`;

/** `code`: what an application imports. `over`: what it would have without. `budget`: bytes between the two. */
export const PARTS = [
  { name: "core: connect() with channels and streaming", code: CORE, over: STOCK, budget: 6 * 1024 },
  ...Object.entries({ outbox: 550, tokens: 500, pageEvents: 512, autoTransports: 1_650 }).map(([name, budget]) => ({
    name: `its part ${name}()`,
    code: `${CORE} export { ${name} } from "tidegate-client/core";`,
    over: CORE,
    budget,
  })),
  { name: "all of it: connect()", code: `${STOCK} export { connect } from "tidegate-client";`, over: STOCK, budget: 9_020 },
  { name: "xhr-streaming alone: withStreaming()", code: `${STOCK} export { withStreaming } from "tidegate-client";`, over: STOCK, budget: 2_800 },
  { name: "React hooks", code: `export * from "tidegate-client/react";`, over: "", budget: 1024, options: { external: ["react"] } },
  { name: "reasons of refusals: refusalOf()", code: `export { refusalOf } from "tidegate-client";`, over: "", budget: 2_950 },
];

export const gzipped = (bytes) => gzipSync(bytes, { level: 9 }).length;

/** Bytes of a bundle as a browser gets it; `dist`: the built package, where `tidegate-client` is imported from. */
export async function gzipSizeOf(root, code, { dist, ...options } = {}) {
  if (code === "") return 0;
  const entry = (_, path = "") => JSON.stringify(join(dist, path, "index.js"));
  const { outputFiles } = await build({
    absWorkingDir: root,
    stdin: { contents: code.replace(/"tidegate-client(\/\w+)?"/g, entry), resolveDir: root },
    nodePaths: [join(root, "node_modules")],
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    legalComments: "none",
    write: false,
    logLevel: "warning",
    ...options,
  });
  return gzipped(outputFiles[0].contents);
}

/** Rows of what each part of the built package adds. */
export async function measure(root, dist) {
  const rows = [];
  for (const { name, code, over, budget, options } of PARTS) {
    const added =
      (await gzipSizeOf(root, code, { dist, ...options })) - (await gzipSizeOf(root, over, { dist, ...options }));
    rows.push({ name, added, budget });
  }
  return rows;
}
