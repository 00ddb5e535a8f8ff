import { overTheWire } from "./wire.js";

/** The first value of an answer, see `docs/delivery-from-clients.md`. */
export const HANDLED = 0;
export const FAILED = 1;
export const UNHANDLED = 2;
const SETTLED = 3;
const REFUSED = 4;

/** Numbers from the floor on that one stream may use. */
const MAX_OUTSTANDING = 1_000;
const STREAM = /^[A-Za-z0-9_-]{16,64}$/;
const RESERVED = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "tidegate:once"];

type Answer = readonly unknown[];

interface Message {
  /** Undefined while the handler runs. */
  answer: Answer | undefined;
  asking: ((answer: Answer) => void)[];
}

interface Stream {
  floor: number;
  readonly messages: Map<number, Message>;
}

/** What the gateway remembers of messages that clients send again, so that each is handled once. */
export class OnceStreams {
  readonly #streams = new Map<string, Stream>();

  /** As when its window is over, or the gateway was started anew: a copy is handled again. */
  forget(): void {
    this.#streams.clear();
  }

  /** `data`: what follows the name of the event. `run` gives the answer of the handler. */
  receive(
    data: readonly unknown[],
    run: (event: string, args: unknown[]) => Promise<Answer>,
    answer: (values: Answer) => void,
  ): void {
    const refuse = (code: number, message: string): void => answer([code, { message }]);
    const fault = faultOf(data);
    if (fault) return refuse(REFUSED, `malformed tidegate:once: ${fault}`);
    const [name, number, floor, event, ...args] = data as [string, number, number, string, ...unknown[]];
    if (number === 0) return answer([HANDLED]);
    let stream = this.#streams.get(name);
    if (!stream) this.#streams.set(name, (stream = { floor, messages: new Map() }));
    if (floor > stream.floor) {
      stream.floor = floor;
      for (const each of stream.messages.keys()) if (each < floor) stream.messages.delete(each);
    }
    if (number < stream.floor) {
      return refuse(SETTLED, `message ${number} was settled before, and its answer is forgotten`);
    }
    const known = stream.messages.get(number);
    if (known?.answer) return answer(known.answer);
    if (known) return void known.asking.push(answer);
    if (number - stream.floor >= MAX_OUTSTANDING) {
      return refuse(REFUSED, `${MAX_OUTSTANDING} messages of the stream are not settled`);
    }
    const message: Message = { answer: undefined, asking: [answer] };
    stream.messages.set(number, message);
    void run(event, args).then((values) => {
      // What the handler returned may change later.
      message.answer = overTheWire(values) as Answer;
      for (const each of message.asking.splice(0)) each(message.answer);
    });
  }
}

function faultOf(data: readonly unknown[]): string | undefined {
  const [stream, number, floor, event] = data;
  if (data.length < 3) return "it is [stream, number, floor, event, ...args]";
  if (typeof stream !== "string" || !STREAM.test(stream)) {
    return "the stream must be 16 to 64 characters out of A-Z a-z 0-9 _ -";
  }
  if (!Number.isSafeInteger(number) || (number as number) < 0) return "the number must be an integer of 0 or more";
  if (number === 0) return data.length > 3 ? "number 0 goes without an event" : undefined;
  if (!Number.isSafeInteger(floor) || (floor as number) < 1 || (floor as number) > (number as number)) {
    return "the floor must be an integer of 1 or more, and not above the number";
  }
  if (typeof event !== "string" && !Number.isInteger(event)) return "the event's name must be text or an integer";
  if (RESERVED.includes(event as string)) return `event name '${event as string}' is reserved`;
  return undefined;
}
