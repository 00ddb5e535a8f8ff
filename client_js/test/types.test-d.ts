// Not run: `tsc -p test` fails where one of these lines compiles that should not, or the other way round.
import type { Channel, Client, Observable, ConnectionState, Publication } from "../src/index.js";
import { connect } from "../src/index.js";
import { MemoryGateway, type GatewaySocket, type HandlerContext, type MemoryChannel } from "../src/testing/index.js";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

function is<A, B>(..._: Equal<A, B> extends true ? [] : [never]): void {}

interface Line {
  readonly from: string;
  readonly text: string;
}

interface Chat {
  toServer: {
    say(text: string, to?: string): number;
    leave(): void;
    later(text: string): Promise<Line>;
    many(...texts: string[]): void;
  };
  fromServer: { said(line: Line): void; name(): string };
  channels: { news: { title: string }; [room: `room:${string}`]: Line };
}

declare const client: Client<Chat>;
declare const gateway: MemoryGateway<Chat>;

// -- events to the server --------------------------------------------------------------------------------

is<ReturnType<typeof connect<Chat>>, Client<Chat>>();
const said = client.emit("say", "hello");
is<typeof said, Promise<number>>();
const left = client.emit("leave");
is<typeof left, Promise<void>>();
const later = client.emit("later", "x");
is<typeof later, Promise<Line>>();
void client.emit("say", "hello", "Ada");
void client.emit("many");
void client.emit("many", "a", "b");
void client.emitWith({ timeout: 10 }, "say", "hello");
client.emitVolatile("say", "hello");

// @ts-expect-error: no such event
void client.emit("sya", "hello");
// @ts-expect-error: an event of the other direction
void client.emit("said", { from: "", text: "" });
// @ts-expect-error: an argument is missing
void client.emit("say");
// @ts-expect-error: of another type
void client.emit("say", 1);
// @ts-expect-error: one too many
void client.emit("leave", 1);
// @ts-expect-error: one too many
void client.emit("say", "a", "b", "c");
// @ts-expect-error: no such option
void client.emitWith({ timeOut: 10 }, "say", "hello");
// @ts-expect-error: no such event
client.emitVolatile("sya", "hello");
// @ts-expect-error: of another type
client.emitVolatile("say", 1);
// @ts-expect-error: the answer is a number
const wrong: Promise<string> = client.emit("say", "hello");

// -- events from the server ------------------------------------------------------------------------------

const end = client.on("said", ({ from }) => void from.length);
is<typeof end, () => void>();
client.on("said", () => {});
client.on("said", async () => {});
client.on("name", () => "Ada");
client.on("name", async () => "Ada");
// @ts-expect-error: no such event
client.on("say", () => {});
// @ts-expect-error: the argument is a Line
client.on("said", (line: string) => void line);
// @ts-expect-error: more arguments than there are
client.on("said", (line, more) => void [line, more]);
// @ts-expect-error: must answer with text
client.on("name", () => 1);
// @ts-expect-error: must answer
client.on("name", () => {});
// @ts-expect-error: must answer with text
client.on("name", async () => 1);

// -- channels --------------------------------------------------------------------------------------------

const news = client.channel("news");
is<typeof news, Channel<{ title: string }>>();
const room = client.channel("room:1");
is<typeof room, Channel<Line>>();
const which = "room:2" as `room:${string}`;
is<Awaited<ReturnType<Channel<Line>["presence"]>>[number]["client"], string>();
client.channel(which).on("publication", ({ data }) => void data.from);
void news.publish({ title: "x" });
news.on("join", ({ client }) => void client.length);
// @ts-expect-error: no such channel
client.channel("olds");
// @ts-expect-error: any text is too much
client.channel("room" as string);
// @ts-expect-error: of another channel
void news.publish({ from: "", text: "" });
// @ts-expect-error: a field is missing
void room.publish({ from: "" });
// @ts-expect-error: no such event
news.on("publish", () => {});
// @ts-expect-error: data is a title
news.on("publication", ({ data }) => void data.from);
// @ts-expect-error: a position has both
void news.history({ since: { offset: 1 } });
async function read(): Promise<void> {
  for await (const publication of news) is<typeof publication, Publication<{ title: string }>>();
  // @ts-expect-error: read only
  for await (const publication of news) publication.offset = 2;
}

// -- state -----------------------------------------------------------------------------------------------

is<typeof client.connection, Observable<ConnectionState>>();
const state = client.connection.get();
// @ts-expect-error: only while connected
void state.recovered;
if (state.status === "connected") void state.recovered;
// @ts-expect-error: no such state
if (state.status === "disconnected") void 0;
// @ts-expect-error: read only
client.connection = client.connection;

// -- without a contract, and with a part of one ----------------------------------------------------------

const free = connect("https://example.com");
const answer = free.emit("anything", 1, {}, []);
is<typeof answer, Promise<unknown>>();
free.on("anything", (first, second) => void [first, second]);
const anything = free.channel("anything");
is<typeof anything, Channel<unknown>>();
// @ts-expect-error: unknown must be looked at first
free.on("anything", (first) => void first.length);

const partly = connect<{ fromServer: { said(line: Line): void } }>();
void partly.emit("anything", 1);
// @ts-expect-error: this part is there
partly.on("anything", () => {});

// @ts-expect-error: no such option
connect("https://example.com", { reconnection: true });
// @ts-expect-error: no such transport
connect("https://example.com", { transports: ["carrier-pigeon"] });
// @ts-expect-error: a token is text
connect("https://example.com", { token: () => 1 });
connect("https://example.com", { token: async (need) => (need === "refused" ? "b" : "a"), path: "/rt/" });

// -- the double ------------------------------------------------------------------------------------------

const double = gateway.connect({ auth: {} });
is<typeof double, Client<Chat>>();
gateway.on("say", (text) => text.length);
gateway.on("say", async (text, to, { socket }) => {
  is<typeof text, string>();
  is<typeof to, string | undefined>();
  is<typeof socket, GatewaySocket<Chat>>();
  return 1;
});
gateway.emit("said", { from: "", text: "" });
const newsDouble = gateway.channel("news");
is<typeof newsDouble, MemoryChannel<{ title: string }>>();
newsDouble.publish({ title: "" });
new MemoryGateway().on("anything", (first) => void first);
// @ts-expect-error: must answer with a number
gateway.on("say", () => "x");
// @ts-expect-error: no such event
gateway.on("said", () => {});
// @ts-expect-error: an event of the other direction
gateway.emit("say", "x");
// @ts-expect-error: of another type
gateway.emit("said", "x");
// @ts-expect-error: of another type
newsDouble.publish({ from: "" });
// @ts-expect-error: no such channel
gateway.channel("olds");
gateway.on("many", (...texts) => is<(typeof texts)[number], string | HandlerContext<Chat>>());
const name = gateway.socketOf(double)?.ask("name");
is<typeof name, Promise<string> | undefined>();

export { wrong, read };
