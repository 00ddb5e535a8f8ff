// Writes src/refusals-table.ts from the server's catalogue; scripts/refusals at the root of the repository runs it:
//   tidegate refusals --json | node scripts/refusals.mjs > src/refusals-table.ts
import { readFileSync } from "node:fs";

const { refusals, retry_after_s } = JSON.parse(readFileSync(0, "utf8"));

// What the error of an application can carry. Of a refused upgrade the engine tells it nothing, and neither does
// the server of a message that it drops or a connection that it cuts. The internal address of a cluster has no clients.
const seen = refusals.filter(
  ({ name, ends, status, close_code }) =>
    !name.startsWith("cluster_") &&
    (ends === "namespace" || ((ends === "request" || ends === "session") && (status !== null || close_code !== null))),
);

const groups = new Map();
for (const { name, door, message, ends, retry, status, code, close_code } of seen) {
  // Who is refused a request has no WebSocket to be closed.
  const closeCode = door === "HTTP" ? null : close_code;
  const head = [door, ends, retry, status ?? 0, code ?? 0, closeCode ?? 0].map((each) => JSON.stringify(each)).join(", ");
  groups.set(head, [...(groups.get(head) ?? []), `      ${name}: ${JSON.stringify(message)},`]);
}
const text = [...groups].map(([head, rows]) => `  [\n    ${head},\n    {\n${rows.join("\n")}\n    },\n  ],`).join("\n");

process.stdout.write(`// Written by scripts/refusals (at the root of the repository) from the server's catalogue; do not edit.

/** How long to wait where the answer does not say it. */
export const RETRY_AFTER_S = ${retry_after_s};

/** Door, what ends, whether to come back, HTTP status and code, close code (0: none), and the messages by name. */
export const REFUSALS = [
${text}
] as const;
`);
