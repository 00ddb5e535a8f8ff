import { parseArgs } from "node:util";
import type { Position } from "../channel.js";
import { transports, type TransportName } from "../options.js";

export const HELP = `Usage:
  tidegate-client tail <url> <channel> [options]    print the publications of a channel
  tidegate-client events <url> [options]            print the events that the server sends
  tidegate-client emit <url> <event> [json ...]     send an event and print the answer

The path of <url> is the namespace: https://example.com/news

Options:
  --json              one JSON object a line
  --auth JSON         what the connect handler gets as auth: '{"room": 1}'
  --token TOKEN       sent as auth.token; or set TIDEGATE_TOKEN, which other users of the machine cannot see
  --transport NAMES   auto (default), or out of websocket, xhr-streaming, polling and webtransport, in order,
                      with commas between
  --path PATH         where the gateway is mounted (default: /socket.io)
  --timeout SECONDS   until connected, subscribed or answered (default: 20)
  --history N         tail: first the latest N publications
  --since OFFSET@EPOCH
                      tail: first what came after that position, as -v shows it
  -v, --verbose       states of the connection, transports and positions, on standard error
  -h, --help
  --version

Exit codes:
  0  done; also when the reader of the output goes away
  1  something else went wrong
  2  the command line is wrong
  3  the server refuses the connection, the channel or the message, or has disconnected this client
  4  no connection, or no answer, in time
  5  nothing there handles the event, or the gateway does not offer channels
  130, 143  ended by SIGINT or SIGTERM`;

/** A command line that is wrong. */
export class UsageError extends Error {}

export interface Settings {
  readonly url: string;
  readonly json: boolean;
  readonly verbose: boolean;
  readonly auth: object | undefined;
  readonly token: string | undefined;
  readonly transports: "auto" | readonly TransportName[];
  readonly path: string;
  readonly timeoutMs: number;
}

export type Command =
  | { readonly name: "help" }
  | { readonly name: "version" }
  | ({ readonly name: "tail"; readonly channel: string; readonly history: number; readonly since: Position | undefined } & Settings)
  | ({ readonly name: "events" } & Settings)
  | ({ readonly name: "emit"; readonly event: string; readonly args: unknown[] } & Settings);

const OPTIONS = {
  json: { type: "boolean", default: false },
  auth: { type: "string" },
  token: { type: "string" },
  transport: { type: "string", default: "auto" },
  path: { type: "string", default: "/socket.io" },
  timeout: { type: "string", default: "20" },
  history: { type: "string" },
  since: { type: "string" },
  verbose: { type: "boolean", short: "v", default: false },
  help: { type: "boolean", short: "h", default: false },
  version: { type: "boolean", default: false },
} as const;

/** Raises: UsageError. */
export function readArguments(argv: readonly string[], environ: Record<string, string | undefined>): Command {
  const { values, positionals } = parse(argv);
  if (values.help) return { name: "help" };
  if (values.version) return { name: "version" };
  const [name, url, subject, ...json] = positionals;
  if (name === undefined) throw new UsageError("which command? One of tail, events and emit");
  if (name !== "tail" && name !== "events" && name !== "emit") {
    throw new UsageError(`unknown command "${name}": it is one of tail, events and emit`);
  }
  if (url === undefined) throw new UsageError(`${name} needs the URL of a gateway, such as https://example.com`);
  if (name !== "tail" && (values.history !== undefined || values.since !== undefined)) {
    throw new UsageError("--history and --since are for tail");
  }
  const settings: Settings = {
    url: readUrl(url),
    json: values.json,
    verbose: values.verbose,
    auth: values.auth === undefined ? undefined : readAuth(values.auth),
    token: values.token ?? environ.TIDEGATE_TOKEN,
    transports: readTransports(values.transport),
    path: values.path,
    timeoutMs: readNumber("--timeout", values.timeout, 0.001, 2 ** 31 / 1_000 - 1) * 1_000,
  };
  if (name === "events") {
    if (subject !== undefined) throw new UsageError(`events takes a URL and no more; what is "${subject}"?`);
    return { name, ...settings };
  }
  if (subject === undefined) throw new UsageError(`${name} needs ${name === "tail" ? "a channel" : "an event"} after the URL`);
  if (name === "emit") return { name, ...settings, event: subject, args: json.map(readJson) };
  if (json.length > 0) throw new UsageError(`tail takes one channel; what is "${json[0]}"?`);
  if (values.history !== undefined && values.since !== undefined) {
    throw new UsageError("--history and --since exclude each other");
  }
  const history = values.history === undefined ? 0 : readNumber("--history", values.history, 1, 1e9);
  if (!Number.isInteger(history)) throw new UsageError("--history must be a whole number");
  return { name, ...settings, channel: subject, history, since: values.since === undefined ? undefined : readPosition(values.since) };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true, strict: true });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function readUrl(text: string): string {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {
    // said below
  }
  if (!url || !/^(https?|wss?):$/.test(url.protocol)) {
    throw new UsageError(`"${text}" is not the URL of a gateway, such as https://example.com or http://127.0.0.1:8000`);
  }
  return text;
}

function readAuth(text: string): object {
  const auth = tryJson(text);
  if (typeof auth !== "object" || auth === null || Array.isArray(auth)) {
    throw new UsageError(`--auth must be a JSON object, such as '{"room": 1}'; this is ${text}`);
  }
  return auth;
}

function readJson(text: string): unknown {
  const value = tryJson(text);
  if (value === undefined) {
    throw new UsageError(`an argument of the event is not JSON: ${text} (text needs its quotes: '${JSON.stringify(text)}')`);
  }
  return value;
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the caller says what was expected
  }
}

function readTransports(text: string): Settings["transports"] {
  if (text === "auto") return text;
  const names = text.split(",") as TransportName[];
  try {
    transports(names);
  } catch (error) {
    throw new UsageError(`--transport: ${(error as Error).message}; there are websocket, xhr-streaming, polling, webtransport, auto`);
  }
  return names;
}

function readNumber(option: string, text: string, from: number, to: number): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= from && value <= to)) throw new UsageError(`${option} must be a number from ${from} to ${to}`);
  return value;
}

function readPosition(text: string): Position {
  const [, offset, epoch] = /^(\d+)@(.+)$/.exec(text) ?? [];
  if (offset === undefined || epoch === undefined) {
    throw new UsageError(`--since is OFFSET@EPOCH, as -v shows positions; this is ${text}`);
  }
  return { offset: Number(offset), epoch };
}
