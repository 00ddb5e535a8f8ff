// What users of the package download, with gzip, over what they have anyway (socket.io-client, React).
import { build } from "esbuild";
import { gzipSync } from "node:zlib";

const STOCK = `export { io, Manager, Socket, NodeXHR, NodeWebSocket, WebTransport } from "socket.io-client";`;

/** `code`: what an application imports. `over`: what it would have without. `budget`: bytes between the two. */
export const PARTS = [
  { name: "core: connect(), channels, streaming", code: `${STOCK} export { connect } from "./src/index.js";`, over: STOCK, budget: 8.75 * 1024 },
  { name: "xhr-streaming alone: withStreaming()", code: `${STOCK} export { withStreaming } from "./src/index.js";`, over: STOCK, budget: 3 * 1024 },
  { name: "React hooks", code: `export * from "./src/react/index.js";`, over: "", budget: 1024, options: { external: ["react"] } },
  { name: "reasons of refusals: refusalOf()", code: `export { refusalOf } from "./src/index.js";`, over: "", budget: 3.5 * 1024 },
];

export const gzipped = (bytes) => gzipSync(bytes, { level: 9 }).length;

/** Bytes of a bundle as a browser gets it. */
export async function gzipSizeOf(root, code, options = {}) {
  if (code === "") return 0;
  const { outputFiles } = await build({
    absWorkingDir: root,
    stdin: { contents: code, resolveDir: root, loader: "ts" },
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

/** Rows of what each part adds; throws where one is over its budget. */
export async function measure(root) {
  const rows = [];
  for (const { name, code, over, budget, options } of PARTS) {
    const added = (await gzipSizeOf(root, code, options)) - (await gzipSizeOf(root, over, options));
    rows.push({ name, added, budget });
  }
  return rows;
}
