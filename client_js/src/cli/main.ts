#!/usr/bin/env node
import { createRequire } from "node:module";
import { HELP, UsageError, readArguments, type Command } from "./arguments.js";
import { EXIT, failureOf } from "./failure.js";
import { Output, complain } from "./output.js";
import { openClient } from "./session.js";
import { tail } from "./tail.js";

type Running = Exclude<Command, { name: "help" } | { name: "version" }>;

const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/** Resolves with the exit code, once the command has ended by whatever means. */
function run(command: Running): Promise<number> {
  return new Promise((resolve) => {
    const end = (code: number): void => {
      client.close();
      resolve(code);
    };
    const fail = (error: unknown): void => {
      const { code, message } = failureOf(error);
      if (!isEnding) complain(message);
      isEnding = true;
      end(code);
    };
    let isEnding = false;
    const output = new Output(command.verbose, () => end(EXIT.done), fail);
    for (const [signal, code] of Object.entries(SIGNALS)) process.once(signal, () => end(code));
    const onEvent = (event: string, args: readonly unknown[]): void => {
      try {
        output.line(command.json ? JSON.stringify({ event, args }) : [event, ...args.map(plain)].join(" "));
      } catch (error) {
        fail(error);
      }
    };
    const client = openClient(command, output, fail, command.name === "events" ? onEvent : undefined);
    if (command.name === "tail") {
      tail(client, command, output, fail).catch(fail);
    } else if (command.name === "emit") {
      client
        .emit(command.event, ...command.args)
        .then((answer) => {
          if (answer !== undefined || command.json) output.line(JSON.stringify(answer ?? null));
          return output.flush();
        })
        .then(() => end(EXIT.done), fail);
    }
  });
}

function plain(value: unknown): string {
  return JSON.stringify(value) ?? "undefined";
}

async function main(): Promise<number> {
  try {
    const command = readArguments(process.argv.slice(2), process.env);
    if (command.name === "help") {
      process.stdout.write(`${HELP}\n`);
      return EXIT.done;
    }
    if (command.name === "version") {
      const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };
      process.stdout.write(`${version}\n`);
      return EXIT.done;
    }
    return await run(command);
  } catch (error) {
    if (error instanceof UsageError) {
      complain(`${error.message}\n\nTry: tidegate-client --help`);
      return EXIT.usage;
    }
    const { code, message } = failureOf(error);
    complain(message);
    return code;
  }
}

void main().then((code) => (process.exitCode = code));
