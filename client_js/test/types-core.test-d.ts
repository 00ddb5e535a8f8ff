// Not run, as types.test-d.ts: what may be given to `tidegate-client/core`, and what not.
import { createElement } from "react";
import type { Channel, Client, Publication } from "../src/index.js";
import {
  autoTransports,
  connect,
  outbox,
  pageEvents,
  tokens,
  type CoreClient,
  type CoreConnectOptions,
  type Sender,
} from "../src/core/index.js";
import { GatewayProvider, useChannel, useClient, useConnection } from "../src/react/index.js";
import { MemoryGateway } from "../src/testing/index.js";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

function is<A, B>(..._: Equal<A, B> extends true ? [] : [never]): void {}

interface Chat {
  toServer: { say(text: string): number };
  fromServer: { said(text: string): void };
  channels: { news: { title: string } };
}

// -- the same contract as of a client with all parts ------------------------------------------------------

const client = connect<Chat>("https://example.com");
is<typeof client, CoreClient<Chat>>();
is<typeof client.outbox, Sender>();
const said = client.emit("say", "hello");
is<typeof said, Promise<number>>();
const news = client.channel("news");
is<typeof news, Channel<{ title: string }>>();
client.on("said", (text) => void text.length);
// @ts-expect-error: no such event
void client.emit("sya", "hello");
// @ts-expect-error: of another type
void news.publish("x");
// @ts-expect-error: no such channel
client.channel("olds");

declare const whole: Client<Chat>;
const asCore: CoreClient<Chat> = whole;
// @ts-expect-error: lacks parts
const asWhole: Client<Chat> = client;
// @ts-expect-error: of another contract
const other: CoreClient<{ toServer: { say(n: number): void } }> = client;

// -- parts ------------------------------------------------------------------------------------------------

connect("https://example.com", {
  auth: { name: "Ada" },
  page: pageEvents(),
  outbox: outbox({ maxMessages: 10 }),
  token: tokens(async (need) => (need === "refused" ? "b" : "a"), { event: "token" }),
  transports: autoTransports({ rememberFor: 1_000, onTransport: ({ outcome }) => void outcome.length }),
  streaming: { padding: 0 },
  path: "/rt/",
});
connect("https://example.com", { transports: ["websocket", "xhr-streaming"] });

// What `tidegate-client` takes, and the part does here.
// @ts-expect-error: tokens()
connect("https://example.com", { token: () => "a" });
// @ts-expect-error: outbox()
connect("https://example.com", { outbox: { maxMessages: 1 } });
// @ts-expect-error: autoTransports()
connect("https://example.com", { transports: "auto" });
// @ts-expect-error: the option of a part
connect("https://example.com", { tokenEvent: "token" });
// @ts-expect-error: the option of a part
connect("https://example.com", { auto: {} });
// @ts-expect-error: the option of a part
connect("https://example.com", { onTransport: () => {} });
const kept = { tokenEvent: "token" };
// @ts-expect-error: nor in a variable, where others are let pass
const options: CoreConnectOptions = kept;

// Each in its place.
// @ts-expect-error: of another option
connect("https://example.com", { token: pageEvents() });
// @ts-expect-error: of another option
connect("https://example.com", { page: tokens(() => "a") });
// @ts-expect-error: of another option
connect("https://example.com", { outbox: pageEvents() });
// @ts-expect-error: of another option
connect("https://example.com", { transports: pageEvents() });
// @ts-expect-error: the function, and not what it makes
connect("https://example.com", { page: pageEvents });
// @ts-expect-error: no such transport
connect("https://example.com", { transports: ["carrier-pigeon"] });
// @ts-expect-error: no such option
connect("https://example.com", { reconnection: true });
// @ts-expect-error: no such option
outbox({ maxMessage: 1 });
// @ts-expect-error: a token is text
tokens(() => 1);

// -- beside it --------------------------------------------------------------------------------------------

const double = new MemoryGateway<Chat>().connectCore({ outbox: outbox() });
is<typeof double, CoreClient<Chat>>();

function Headlines(): string {
  const core = useClient<Chat, CoreClient<Chat>>();
  is<typeof core, CoreClient<Chat>>();
  is<ReturnType<typeof useClient<Chat>>, Client<Chat>>();
  const { publications } = useChannel(core, "news");
  is<typeof publications, readonly Publication<{ title: string }>[]>();
  return useConnection(core).status;
}
createElement(GatewayProvider<Chat>, { client }, createElement(Headlines));

export { asCore, asWhole, options, other };
