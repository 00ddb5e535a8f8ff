import type { Channel, Position, Publication } from "../channel.js";
import type { Client } from "../client.js";
import { TidegateError } from "../errors.js";
import type { Command } from "./arguments.js";
import { EXIT, Failure } from "./failure.js";
import type { Output } from "./output.js";

type Tail = Extract<Command, { name: "tail" }>;

const PAGE = 500;

/** Prints publications until `fail` ends it. Rejects with a Failure where it cannot begin. */
export async function tail(client: Client, command: Tail, output: Output, fail: (error: unknown) => void): Promise<void> {
  const channel = client.channel(command.channel);
  const print = printer(command, output);
  let early: Publication<unknown>[] | undefined = [];
  let last = 0;
  const take = (publication: Publication<unknown>): void => {
    const { offset } = publication;
    if (offset !== undefined) {
      if (offset <= last) return;
      last = offset;
    }
    try {
      print(publication);
    } catch (error) {
      fail(error);
    }
  };
  channel.on("publication", (publication) => (early ? early.push(publication) : take(publication)));
  channel.state.subscribe((state) => {
    output.detail(`${command.channel}: ${state.status}`);
    if (state.status === "subscribed" && state.recovered === false) {
      // Another stream may number from 1 again.
      last = 0;
      output.note(`${command.channel}: publications were missed here`);
    } else if (state.status === "unsubscribed" && state.reason && state.reason.code !== "closed") {
      fail(new Failure(EXIT.refused, `${state.reason.message} (the channel is refused)`));
    }
  });
  await within(command.timeoutMs, Promise.all([channel.subscribe(), offersChannels(client, command.channel)]), command.channel);
  for (const publication of await history(channel, command, output)) take(publication);
  const waiting = early;
  early = undefined;
  waiting.forEach(take);
}

/** Rejects where the gateway has no handler for the events of channels: it leaves `channel:subscribe` unanswered. */
async function offersChannels(client: Client, channel: string): Promise<void> {
  try {
    await client.emit("channel:history", { channel, limit: 1 });
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    if (error.code === "unhandled") throw new Failure(EXIT.unhandled, "this gateway does not offer channels");
    // Anything else is about this channel's history, which need not be asked for.
  }
}

function within<T>(ms: number, promise: Promise<T>, channel: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(
        new Failure(
          EXIT.timeout,
          `${channel}: not subscribed within ${ms / 1_000} s; a gateway that does not offer channels does not answer`,
        ),
      );
    }, ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

async function history(channel: Channel, { history, since }: Tail, output: Output): Promise<readonly Publication<unknown>[]> {
  if (history > 0) {
    const { publications, ...at } = await channel.history({ limit: history, reverse: true });
    output.detail(`${channel.name}: at ${at.offset}@${at.epoch}`);
    return [...publications].reverse();
  }
  if (!since) return [];
  const all: Publication<unknown>[] = [];
  let from: Position = since;
  for (;;) {
    const { publications, offset, epoch } = await channel.history({ since: from, limit: PAGE });
    const first = publications[0]?.offset;
    if (epoch !== since.epoch || (first !== undefined ? first > from.offset + 1 : offset > from.offset)) {
      output.note(`${channel.name}: publications after ${from.offset}@${from.epoch} are no longer kept, some were missed here`);
    }
    all.push(...publications);
    const next = publications.at(-1)?.offset;
    if (next === undefined || next >= offset || epoch !== from.epoch) {
      output.detail(`${channel.name}: at ${offset}@${epoch}`);
      return all;
    }
    from = { offset: next, epoch };
  }
}

function printer({ json }: Tail, output: Output): (publication: Publication<unknown>) => void {
  if (json) return ({ channel, offset, data }) => output.line(JSON.stringify({ channel, offset, data }));
  return ({ offset, data }) => output.line(`${offset === undefined ? "" : `${offset} `}${JSON.stringify(data)}`);
}
