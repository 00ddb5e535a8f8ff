// Sizes of browser clients, ours and the peers', as a Markdown table; `make sizes` at the root prints it.
//   file: the published build for browsers, as it lies in the npm package
//   import: what a bundler (esbuild, minified) makes of the import that an application begins with
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSizeOf, gzipped } from "../../client_js/scripts/sizes.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const client = fileURLToPath(new URL("../../client_js", import.meta.url));
const files = fileURLToPath(new URL("../../gateway/static", import.meta.url));
const modules = join(here, "node_modules");

const CLIENTS = [
  {
    name: "socket.io-client",
    file: join(modules, "socket.io-client/dist/socket.io.min.js"),
    code: `export { io } from "socket.io-client";`,
    has: "WebSocket, long-polling, WebTransport; acks, retries",
  },
  {
    name: "tidegate-client",
    file: join(files, "tidegate-client.min.js"),
    root: client,
    code: `export { connect } from "tidegate-client";`,
    has: "all of socket.io-client; xhr-streaming, states, channels; outbox, choice of transports, page events, tokens",
  },
  {
    name: "tidegate-client/core",
    root: client,
    code: `export { connect } from "tidegate-client/core";`,
    has: "all of socket.io-client; xhr-streaming, states, channels",
  },
  {
    name: "centrifuge",
    file: join(modules, "centrifuge/dist/centrifuge.js"),
    code: `export { Centrifuge } from "centrifuge";`,
    has: "WebSocket, HTTP streaming, SSE (SockJS, WebTransport by option); subscriptions with recovery",
  },
  {
    name: "@anycable/web",
    code: `export { createCable } from "@anycable/web";`,
    has: "WebSocket; channels with recovery (long-polling is another package)",
  },
  {
    name: "sockjs-client",
    file: join(modules, "sockjs-client/dist/sockjs.min.js"),
    has: "WebSocket, XHR and iframe streaming, polling; no reconnect, no channels",
  },
];

const show = (bytes) => (bytes === undefined ? "–" : `${(bytes / 1024).toFixed(1)} KB`);

function version({ name, root }) {
  const file = root ? join(root, "package.json") : join(modules, name, "package.json");
  return JSON.parse(readFileSync(file, "utf8")).version;
}

console.log("| client | published file | import, bundled | brings |\n| --- | --- | --- | --- |");
for (const each of CLIENTS) {
  const file = each.file && gzipped(readFileSync(each.file));
  const bundled = each.code && (await gzipSizeOf(each.root ?? here, each.code, { dist: join(client, "dist"), logLevel: "error" }));
  console.log(`| ${each.name} ${version(each)} | ${show(file)} | ${show(bundled)} | ${each.has} |`);
}
